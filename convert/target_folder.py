"""Target folder of a conversion: what it may replace, and whether the disk has room."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlx_voxcpm2.file_names import check_file_name, is_folder_of
from mlx_voxcpm2.files import atomic_folder, claimed
from mlx_voxcpm2.weights.hub import all_checkpoint_files

_BESIDE = ("pytorch_model.bin", "README.md", "LICENSE")


@contextmanager
def target_folder(target: Path, overwrite: bool) -> Iterator[Path]:
    """`atomic_folder`, owned, that replaces only a checkpoint, and only with `overwrite`.

    Raises FileExistsError, FileNotFoundError, ValueError or OSError before the block.
    """
    check_file_name(target)
    _check_place(target, overwrite)
    with claimed(target, "choose another --mlx_path"):
        _check_place(target, overwrite)  # the other run may have ended in between
        with atomic_folder(target) as folder:
            yield folder


def _check_place(target: Path, overwrite: bool) -> None:
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise FileExistsError(
            f"{target} exists; choose another --mlx_path, or replace it with --overwrite"
        )
    # --overwrite deletes the folder, so there must be nothing but a checkpoint in it.
    is_checkpoint = (target / "config.json").is_file() and any(target.glob("*.safetensors"))
    if not is_checkpoint or not is_folder_of(target, (*all_checkpoint_files(), *_BESIDE)):
        raise FileExistsError(
            f"{target} is not a checkpoint, or holds more; move that away, or choose another "
            "--mlx_path"
        )


def require_room(folder: Path, needed: int) -> None:
    """Raises OSError unless the disk of `folder` has that many bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            f"{folder.parent}: {needed / 1e9:.2f} GB are needed and "
            f"{free / 1e9:.2f} GB free; make room, or choose another --mlx_path"
        )
