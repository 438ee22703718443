"""Agreement among the processes of one training run, started by `mlx.launch`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import mlx.core as mx
import numpy as np


@contextmanager
def all_or_none(group: mx.distributed.Group) -> Iterator[None]:
    """Lets the block fail in all processes if it fails in one, so that none waits for another.

    The first process that failed raises its ValueError or OSError, the others SystemExit(2), since
    one message is enough.
    """
    try:
        yield
    except (ValueError, OSError):
        if any(_failures(group, True)[: group.rank()]):
            raise SystemExit(2) from None
        raise
    if any(_failures(group, False)):
        raise SystemExit(2)


def _failures(group: mx.distributed.Group, failed: bool) -> list[bool]:
    """Whether each process failed, by rank."""
    flags = [failed if rank == group.rank() else False for rank in range(group.size())]
    sums = mx.distributed.all_sum(mx.array(flags, mx.float32), group=group)
    return [bool(total > 0) for total in np.array(sums)]
