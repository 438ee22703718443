"""A folder that is there whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlx_voxcpm2.errors import one_line


@contextmanager
def whole_folder(target: Path, overwrite: bool) -> Iterator[Path]:
    """Yields a folder beside `target` that takes its place if the block succeeds.

    Until then what is there stays; whatever ends the block leaves nothing else behind. Raises
    FileExistsError, FileNotFoundError or OSError, first of all, if it could not be put there.
    """
    _check_place(target, overwrite)
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


def _check_place(target: Path, overwrite: bool) -> None:
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{target.parent}: no such folder; create it first")
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise FileExistsError(
            f"{target} exists; choose another --mlx_path, or replace it with --overwrite"
        )
    # --overwrite deletes the folder: not one that holds other things than a checkpoint.
    is_checkpoint = (target / "config.json").is_file() and any(target.glob("*.safetensors"))
    if not is_checkpoint or any(entry.is_dir() for entry in target.iterdir()):
        raise FileExistsError(
            f"{target} is not a checkpoint, or holds more; remove it, or choose another --mlx_path"
        )


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


def require_room(folder: Path, needed: int) -> None:
    """Raises OSError if the disk that `folder` is on has not as many bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            f"{folder.parent.parent}: {needed / 1e9:.2f} GB are needed and "
            f"{free / 1e9:.2f} GB free; make room, or choose another --mlx_path"
        )
