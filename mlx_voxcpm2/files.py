"""Atomic writing of files and folders, and reading of JSON lines."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import one_line


def atomic_write(file: Path, content: bytes) -> None:
    """Writes a file under a temporary name and renames it, so that it is never incomplete.

    Raises the system's OSError; the caller adds what to do.
    """
    unfinished = file.with_name(f".{secrets.token_hex(8)}.unfinished")
    try:
        unfinished.write_bytes(content)
        os.replace(unfinished, file)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yields a temporary folder that replaces `target` if the block succeeds.

    Otherwise `target` is unchanged, and nothing else is left behind. Raises FileNotFoundError or
    OSError, before the block, if there can be no such folder.
    """
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{target.parent}: no such folder; create it first")
    try:
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    except OSError as error:
        raise OSError(
            f"{target.parent}: can't write here ({one_line(error)}); choose another folder"
        ) from None
    try:
        folder = temporary / "new"
        folder.mkdir()
        yield folder
        _replace(folder, target, temporary / "old")
    finally:
        _remove(temporary)


def _replace(new: Path, target: Path, aside: Path) -> None:
    try:
        if target.exists():
            target.rename(aside)
        new.rename(target)
    except BaseException:  # an interruption may come after either of the two
        if aside.exists() and not target.exists():
            aside.rename(target)
        raise


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except BaseException:  # impatient users interrupt twice
        shutil.rmtree(folder, ignore_errors=True)
        raise


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, with their numbers from 1, without a byte-order mark.

    Raises OSError or ValueError, at once and in one line, if the file cannot be read.
    """
    try:
        contents = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; check the path") from None
    except IsADirectoryError:
        raise ValueError(f"{path} is a folder; give a file of JSON lines") from None
    except OSError as error:
        raise type(error)(f"{path}: cannot be read ({one_line(error)}); give another") from None
    lines = enumerate(contents.removeprefix(b"\xef\xbb\xbf").splitlines(), start=1)
    return ((number, line) for number, line in lines if line.strip())
