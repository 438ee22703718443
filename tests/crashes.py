"""A process that is killed at any of its changes to files, played in this process.

Python reports each change of a file system to audit hooks; the n-th raises `Killed`, and so does
every one after it, so that no clean-up runs, as after a power cut or SIGKILL.
"""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "fsync"}
_CHANGES |= {"os.truncate", "renameat2"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Killed(BaseException):
    """The end of the process."""


class _Crash:
    """Counts changes below a folder, and ends the process at one of them."""

    folder: str | None = None
    at: int | None = None
    count = 0

    def see(self, event: str, arguments: tuple) -> None:
        if self.folder is None or not self._is_change(event, arguments):
            return
        self.count += 1
        if self.at is not None and self.count >= self.at:
            raise Killed(f"{event} {arguments}")

    def _is_change(self, event: str, arguments: tuple) -> bool:
        if event == "open":
            path, _, flags = arguments
            inside = isinstance(path, str | bytes) and os.fsdecode(path).startswith(self.folder)
            return inside and bool(flags & _WRITING)
        return event in _CHANGES


_crash = _Crash()
sys.addaudithook(_crash.see)  # for good; does nothing while no folder is set
_fsync = os.fsync


def _seen_fsync(descriptor: int) -> None:
    _crash.see("fsync", (descriptor,))
    _fsync(descriptor)


@contextmanager
def _watched(folder: Path, at: int | None) -> Iterator[_Crash]:
    _crash.folder, _crash.at, _crash.count = str(folder), at, 0
    os.fsync = _seen_fsync
    try:
        yield _crash
    finally:
        os.fsync = _fsync
        _crash.folder = None


def kill_at_each_change(
    folder: Path,
    prepare: Callable[[], object],
    act: Callable[[], object],
    least: int = 1,
    step: int = 1,
) -> Iterator[int]:
    """Yields after each kill: prepared, acted, killed at the 1st, 2nd, … change below `folder`.

    Ends when the action survives, and fails if that is after fewer than `least` changes. step: how
    many changes the kill moves on each time.
    """
    at = 1
    gc.freeze()  # each collection passes over all that is here already
    while True:
        prepare()
        try:
            with _watched(folder, at):
                act()
        except Killed:
            pass
        else:
            assert at > least, f"only {at - 1} changes"
            return
        gc.collect()  # closes what the dead process had open
        yield at
        at += step
