"""Several processes that train together, as `mlx.launch` starts them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import mlx.core as mx


@contextmanager
def all_or_none(group: mx.distributed.Group) -> Iterator[None]:
    """If the block fails in one process, it fails in all, so that none waits for another.

    Only the first of those that failed raises its ValueError or OSError; the others leave with
    SystemExit(2), since one line is enough.
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
    """By process, whether it failed."""
    flags = [failed if rank == group.rank() else False for rank in range(group.size())]
    return mx.distributed.all_sum(mx.array(flags, mx.float32), group=group).tolist()
