"""Locks that one process holds, and that are gone with it, however it ends."""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import sys
import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def hold(descriptor: int) -> bool:
    """Lock an open file or folder until it is closed; False if another process has locked it.

    True also on a file system that has no locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file still has this name: its owner may have removed or renamed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


@contextmanager
def owned(target: Path, advice: str) -> Iterator[None]:
    """Own a file or folder to be written while the block runs, whether it is there yet or not.

    advice: what else the user can do, for the message. Raises ValueError, in one line, if another
    process of this user owns it.
    """
    try:
        path = _lock_folder() / f"{_key(target)}.lock"
        descriptor = _open_locked(path)
    except OSError:
        yield  # no temporary folder to lock in
        return
    if descriptor is None:
        raise ValueError(f"{target}: another run writes this now; wait for it, or {advice}")
    try:
        yield
    finally:
        try:
            path.unlink(missing_ok=True)  # still locked, so that nobody else's file is removed
        finally:
            os.close(descriptor)


def _lock_folder() -> Path:
    """Folder of this user's locks: beside the targets, a killed run would leave a file."""
    folder = Path(tempfile.gettempdir()) / f"mlx-voxcpm2-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = os.stat(folder, follow_symlinks=False)
    if status.st_uid != os.getuid() or not stat.S_ISDIR(status.st_mode):
        raise PermissionError(f"{folder} belongs to somebody else")
    return folder


def _key(target: Path) -> str:
    """The same for all names of a file or folder, also where upper and lower case are the same."""
    name = os.path.realpath(target)
    if sys.platform == "darwin":
        name = unicodedata.normalize("NFC", name).casefold()
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:32]


def _open_locked(path: Path) -> int | None:
    """A descriptor of the new or existing file, locked; None if another process has locked it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        if not hold(descriptor):
            os.close(descriptor)
            return None
        if is_at(descriptor, path):
            return descriptor
        os.close(descriptor)  # its owner removed it in between
