"""Warnings of the library, collected for a visitor."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger("mlx_voxcpm2")


@contextmanager
def logged_warnings() -> Iterator[list[str]]:
    """Yields the list of warnings that this thread logs in the block; they are still logged."""
    thread, found = threading.get_ident(), []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == thread:
                found.append(record.getMessage())

    listener = Listener(logging.WARNING)
    logger.addHandler(listener)
    try:
        yield found
    finally:
        logger.removeHandler(listener)
