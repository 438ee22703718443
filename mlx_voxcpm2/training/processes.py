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
    error = None
    try:
        yield
    except (ValueError, OSError) as raised:
        error = raised
    if group.size() > 1:
        failed = mx.zeros(group.size())
        failed[group.rank()] = error is not None
        failed = mx.distributed.all_sum(failed, group=group).tolist()
        if any(failed) and not (error is not None and not any(failed[: group.rank()])):
            raise SystemExit(2)
    if error is not None:
        raise error
