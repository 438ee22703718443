"""The folder of a converted checkpoint: which one may be replaced, and whether it has room."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlx_voxcpm2.files import atomic_folder


@contextmanager
def target_folder(target: Path, overwrite: bool) -> Iterator[Path]:
    """`atomic_folder`, which replaces nothing but checkpoints, and them only when asked to.

    Raises FileExistsError, FileNotFoundError or OSError, first of all.
    """
    _check_place(target, overwrite)
    with atomic_folder(target) as folder:
        yield folder


def _check_place(target: Path, overwrite: bool) -> None:
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


def require_room(folder: Path, needed: int) -> None:
    """Raises OSError if the disk that `folder` is on has not as many bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            f"{folder.parent.parent}: {needed / 1e9:.2f} GB are needed and "
            f"{free / 1e9:.2f} GB free; make room, or choose another --mlx_path"
        )
