"""The files of a checkpoint -> its tensors, still on disk, by the names that they have there."""

from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx

from ..errors import one_line
from .torch_file import load_torch_file

Weights = dict[str, mx.array]


def read_weights(folder: Path) -> tuple[Weights, bool]:
    """All tensors, and whether an MLX program wrote them.

    Raises FileNotFoundError or ValueError with one line that names the file.
    """
    weights: Weights = {}
    written_by_mlx = False
    for file in _model_files(folder):
        tensors, metadata = read_file(file)
        weights.update(tensors)
        written_by_mlx |= metadata.get("format") == "mlx"
    has_vae = any(name.startswith("audio_vae.") for name in weights)
    if has_vae and written_by_mlx:
        return weights, True
    for name in ("audiovae.safetensors", "audiovae.pth"):
        if (folder / name).is_file():
            # Upstream takes this file's even where the other has some too.
            weights = {
                key: value for key, value in weights.items() if not key.startswith("audio_vae.")
            }
            tensors, _ = read_file(folder / name)
            return weights | {f"audio_vae.{key}": value for key, value in tensors.items()}, False
    if has_vae:
        return weights, False
    raise FileNotFoundError(
        f"{folder}: no audiovae.pth or audiovae.safetensors here; download the whole checkpoint"
    )


def _model_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            shard_of = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            names = sorted(Path(name).name for name in set(shard_of.values()))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise ValueError(f"{index}: not an index of shards; download it again") from None
        files = [folder / name for name in names]
    else:
        whole = folder / "model.safetensors"
        pickled = folder / "pytorch_model.bin"
        files = [pickled if pickled.is_file() and not whole.is_file() else whole]
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"{file}: no such file; download the whole checkpoint")
    return files


def read_file(file: Path) -> tuple[Weights, dict]:
    """Its tensors and its metadata. Raises what `read_weights` raises."""
    if file.suffix != ".safetensors":
        return load_torch_file(file), {}
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as header:  # compares it with the file's length
            for name in header.keys():
                if header.get_slice(name).get_dtype() == "F64":
                    raise ValueError(
                        f"{file}: tensor {name} is float64, which MLX can't read; save it as "
                        "float32"
                    )
        return mx.load(str(file), return_metadata=True)
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ValueError(
            f"{file}: damaged or incomplete ({one_line(error)}); download it again"
        ) from None
