"""Long activities, announced to whoever listens: a command says what keeps its user waiting."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

Listener = Callable[[str], None]

ANNOUNCED_AFTER = 2.0
"""Seconds after which an activity is announced."""

_listener: Listener | None = None


@contextlib.contextmanager
def announcing(listener: Listener | None) -> Iterator[None]:
    """Call the listener, from another thread, with each activity in the block that takes long.

    None: announce nothing.
    """
    global _listener
    before, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = before


@contextlib.contextmanager
def activity(description: str) -> Iterator[None]:
    """Announce the description, such as "loading the model", if the block takes long."""
    if _listener is None:
        yield
        return
    timer = threading.Timer(ANNOUNCED_AFTER, _listener, [description])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
