"""Ctrl-C while a command starts or ends: one line and status 130, instead of a traceback.

Imports take a second. `quiet` is for that time, when there is nothing to clean up; `raised` for
the command itself, which cleans up after a KeyboardInterrupt.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

PROGRAM = "mlx-voxcpm2"


def is_command() -> bool:
    """Whether this process runs the installed command, or a module of this package by -m."""
    if os.path.basename(sys.argv[0]) == PROGRAM:
        return True
    if sys.argv[0] != "-m":  # which it is while Python imports the package of the module
        return False
    words = sys.orig_argv
    place = next((i for i, word in enumerate(words) if word.startswith("-m")), len(words))
    module = "".join(words[place : place + 2]).removeprefix("-m")
    return module.split(".")[0] == __package__


def quiet() -> None:
    """End the process at Ctrl-C, unless the program or its shell handles it in another way."""
    is_ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_ours and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _end)


def _end(number: int, frame: object) -> None:
    os.write(2, f"{PROGRAM}: stopped\n".encode())
    os._exit(128 + number)


@contextmanager
def raised() -> Iterator[None]:
    """Raise KeyboardInterrupt at Ctrl-C in the block, if it is quiet around it.

    One that the block does not catch itself, in between two of its lines, ends as quietly.
    """
    if signal.getsignal(signal.SIGINT) is not _end:
        yield
        return
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
    except KeyboardInterrupt:
        _end(signal.SIGINT, None)
    finally:
        signal.signal(signal.SIGINT, _end)
