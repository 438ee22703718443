"""A folder that is there whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import one_line


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Yields a folder beside `target` that takes its place if the block succeeds.

    Until then what is there stays; whatever ends the block leaves nothing else behind. Raises
    FileNotFoundError or OSError, first of all, if it could not be put there.
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
