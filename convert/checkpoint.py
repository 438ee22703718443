"""Writes a model in this package's layout: upstream's names, convolutions as MLX computes them."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_flatten

from mlx_voxcpm2 import VoxCPM2, load_model
from mlx_voxcpm2.errors import one_line
from mlx_voxcpm2.hub import find_checkpoint

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


def convert(
    hf_path: str | Path, mlx_path: str | Path, dtype: str | None = None, revision: str | None = None
) -> Path:
    """A checkpoint that `load_model` takes -> a folder `mlx_path` with one that loads faster.

    dtype as in `load_model`. Raises FileExistsError if `mlx_path` is there already.
    """
    target = Path(os.path.expanduser(mlx_path))
    if target.exists():
        raise FileExistsError(f"{target} exists; remove it or choose another --mlx_path")
    if not target.absolute().parent.is_dir():
        raise FileNotFoundError(f"{target.parent}: no such folder; create it first")
    source = find_checkpoint(hf_path, revision)
    save_checkpoint(load_model(source, dtype), source, target)
    return target


def save_checkpoint(model: VoxCPM2, source: Path, target: Path) -> None:
    """Writes beside `target` and renames when complete, so that no half of it is ever there.

    The configuration and the tokenizer are those of the folder `source`.
    """
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    config["model_type"] = "voxcpm2"
    config["dtype"] = str(model.dtype).split(".")[-1]
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as temporary:
        folder = Path(temporary) / target.name
        folder.mkdir()
        weights = dict(tree_flatten(model.parameters()))
        try:
            file = str(folder / "model.safetensors")
            mx.save_safetensors(file, weights, metadata={"format": "mlx"})
        except RuntimeError as error:
            raise OSError(f"{target} can't be written ({one_line(error)}); make room") from None
        text = json.dumps(config, indent=2, ensure_ascii=False)
        (folder / "config.json").write_text(text + "\n", encoding="utf-8")
        for name in TOKENIZER_FILES:
            if (source / name).is_file():
                shutil.copy(source / name, folder / name)
        folder.rename(target)
