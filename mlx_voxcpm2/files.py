"""Files that are whole or not there, whatever happens: atomic, durable, with nothing left behind.

What is written has a hidden name first, NAME.XXXXXXXX.unfinished with a dot before it, and is
locked by its writer. Data and folder are on the disk before the last name appears, so that what is
there is whole even after a power cut. What a killed process left has no lock any more:
`remove_leftovers` deletes it.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

from .errors import one_line
from .file_names import check_file_name, hidden
from .locks import hold, is_at, owned

_UNFINISHED, _REPLACED = ".unfinished", ".replaced"
_LEFTOVER = re.compile(r"\.(.+)\.[0-9a-f]{8}(?:\.unfinished|\.replaced)", re.DOTALL)


def atomic_write(file: Path, content: bytes) -> None:
    """Write a file, whole or not at all. See `atomic_file`."""
    with atomic_file(file) as unfinished:
        write_all(unfinished, content)


@contextmanager
def atomic_file(target: Path) -> Iterator[BinaryIO]:
    """Yield an unbuffered file that becomes `target`, or replaces it, if the block succeeds.

    Raises the system's OSError; the caller adds what to do.
    """
    with unfinished_file(target) as (file, path):
        yield file
        _sync(file.fileno())
        os.replace(path, target)
        sync_folder(target.parent)


@contextmanager
def unfinished_file(target: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """Yield a new file beside `target`, and its path; removed unless it is renamed."""
    while True:
        path = hidden(target, f".{secrets.token_hex(4)}{_UNFINISHED}")
        file = open(path, "x+b", buffering=0)
        if hold(file.fileno()) and is_at(file.fileno(), path):
            break
        file.close()  # taken for a leftover in the moment before the lock
    with file:
        try:
            yield file, path
        finally:
            path.unlink(missing_ok=True)


def check_writable(target: Path) -> None:
    """Raise the system's OSError unless a file can be created or replaced at `target`.

    Folders that do not exist yet are taken for creatable where a file is. Leaves nothing behind.
    """
    target = target.absolute()
    while not target.parent.exists():
        target = target.parent
    with TemporaryFile(dir=target.parent):  # has no name, so that a kill leaves nothing either
        pass


def check_folder(folder: Path) -> None:
    """Raise ValueError or OSError, in one line, if files can't be written there; leaves none."""
    check_file_name(folder)
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not existing.is_dir():
        raise ValueError(f"{existing} is a file; give a folder")
    try:
        check_writable(existing / "file")
    except OSError as error:
        raise type(error)(_not_writable(existing, error)) from None


def _not_writable(folder: Path, error: OSError) -> str:
    return f"{folder}: can't write here ({one_line(error)}); choose another folder"


def write_all(stream: BinaryIO, data: bytes) -> None:
    """Write all of `data`, also if one call takes only a part: raw files, pipes (`python -u`)."""
    rest = memoryview(data)
    while rest:
        written = stream.write(rest)
        if written is None:
            raise BlockingIOError("output: the stream does not block; make it blocking")
        rest = rest[written:]


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield a new folder that becomes `target`, or replaces it, if the block succeeds.

    Otherwise `target` is unchanged, and nothing else is left behind. Raises FileNotFoundError or
    OSError, before the block, if there can be no such folder.
    """
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{target.parent}: no such folder; create it first")
    path = hidden(target, f".{secrets.token_hex(4)}{_UNFINISHED}")
    try:
        path.mkdir()
    except OSError as error:
        raise OSError(_not_writable(target.parent, error)) from None
    try:
        with _locked_folder(path):
            yield path
            _sync_tree(path)
            _put_in_place(path, target)
            sync_folder(target.parent)
    finally:
        remove_folder(path)  # the unfinished one, or the one that was replaced


@contextmanager
def _locked_folder(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        hold(descriptor)
        yield
    finally:
        os.close(descriptor)


def _put_in_place(new: Path, target: Path) -> None:
    """Rename a folder to `target`; one that is there gets the new one's name, or none."""
    if not os.path.lexists(target):
        os.rename(new, target)
        return
    if _exchange(new, target):
        return
    aside = new.with_suffix(_REPLACED)  # `remove_leftovers` restores it if we are killed here
    with _locked_folder(target):
        try:
            os.rename(target, aside)
            os.rename(new, target)
        except BaseException:  # an interruption may come after either of the two
            if aside.exists() and not target.exists():
                os.rename(aside, target)
            raise
        remove_folder(aside)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names at once; False where the system or its file system can't."""
    library = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)
    try:
        if sys.platform == "darwin":
            status = library.renamex_np(*names, 2)  # RENAME_SWAP
        else:
            here = -100  # AT_FDCWD
            status = library.renameat2(here, names[0], here, names[1], 2)  # RENAME_EXCHANGE
    except AttributeError:
        return False
    return status == 0


def remove_leftovers(folder: Path, target: Path | None = None) -> None:
    """Delete what killed processes left unfinished in a folder; of `target` alone if it is given.

    A folder that was to be replaced, and whose successor did not come, gets its name back. Files
    of running processes, and of others than this package, stay.
    """
    wanted = None if target is None else hidden(target, "").name[1:]
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        found = _LEFTOVER.fullmatch(name)
        if found and wanted in (None, found[1]):
            _remove_leftover(folder / name, target or folder / found[1])


def _remove_leftover(path: Path, target: Path) -> None:
    """Delete an unfinished file or folder of `target`, or put back the one that was replaced."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not hold(descriptor) or not is_at(descriptor, path):
            return
        if not path.is_dir():
            path.unlink(missing_ok=True)
        elif path.suffix == _REPLACED and not os.path.lexists(target):
            os.rename(path, target)
        else:
            remove_folder(path)
    except OSError:
        pass  # it takes room, no more
    finally:
        os.close(descriptor)


@contextmanager
def claimed(target: Path, advice: str) -> Iterator[None]:
    """`locks.owned`, with what killed runs left of the file or folder removed at first."""
    with owned(target, advice):
        remove_leftovers(target.parent, target)
        yield


def discard_folder(folder: Path) -> None:
    """Delete a folder that others read: at once by name, and then its files."""
    aside = hidden(folder, f".{secrets.token_hex(4)}{_UNFINISHED}")
    try:
        os.rename(folder, aside)
    except OSError:
        return
    remove_folder(aside)


def remove_folder(folder: Path) -> None:
    """Delete a folder, if it is there, with all in it, also when the user interrupts twice."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _sync_tree(folder: Path) -> None:
    for place, _, names in os.walk(folder):
        for name in names:
            sync_file(Path(place, name))
        sync_folder(Path(place))


def sync_file(file: Path) -> None:
    """Wait until a file's data are on the disk. Raises OSError."""
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the file system can tell."""
    with suppress(OSError):
        sync_file(folder)


def _sync(descriptor: int) -> None:
    """Wait until a file's data are on the disk; a Mac's fsync waits for its cache only."""
    if full := getattr(fcntl, "F_FULLFSYNC", None):
        try:
            fcntl.fcntl(descriptor, full)
            return
        except OSError:
            pass  # not on a network's file system
    os.fsync(descriptor)
