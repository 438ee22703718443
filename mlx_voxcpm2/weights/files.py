"""Tensors of a checkpoint's files, lazily, by their names in the files."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from ..documents import read_json
from ..errors import one_line
from ..models.family import Family, Network, Weights
from .torch_file import load_torch_file


def read_weights(folder: Path, family: Family) -> tuple[Weights, dict[str, str]]:
    """All tensors of a checkpoint, and their files' metadata if an MLX program wrote them, else {}.

    Raises FileNotFoundError or ValueError with one line that names the file.
    """
    weights: Weights = {}
    found: dict[str, str] = {}
    for file in _model_files(folder):
        tensors, metadata = read_file(file)
        weights.update(tensors)
        if metadata.get("format") == "mlx":
            found |= metadata
    for prefix, names in family.separate_files.items():
        is_included = any(name.startswith(prefix) for name in weights)
        if is_included and found:
            continue
        file = next((folder / name for name in names if (folder / name).is_file()), None)
        if file is None and not is_included:
            raise FileNotFoundError(
                f"{folder}: no {' or '.join(reversed(names))} here; download the whole checkpoint"
            )
        if file is not None:
            # Upstream prefers this file even where the others have the part too.
            weights = {name: x for name, x in weights.items() if not name.startswith(prefix)}
            weights |= {f"{prefix}{name}": value for name, value in read_file(file)[0].items()}
            found = {}
    return weights, found


def _model_files(folder: Path) -> list[Path]:
    """Files of the model itself: one, or the shards that an index lists."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            shard_of = read_json(index, "download it again")["weight_map"]
            names = sorted(Path(name).name for name in set(shard_of.values()))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(f"{index}: not an index of shards; download it again") from None
        files = [folder / name for name in names]
    else:
        whole = folder / "model.safetensors"
        pickled = folder / "pytorch_model.bin"
        files = [pickled if pickled.is_file() and not whole.is_file() else whole]
        if not files[0].is_file():
            files = sorted(folder.glob("model-?????-of-?????.safetensors")) or files
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"{file}: no such file; download the whole checkpoint")
    return files


def read_file(file: Path) -> tuple[Weights, dict]:
    """Tensors and metadata of one file. Raises what `read_weights` raises."""
    if file.suffix != ".safetensors":
        return load_torch_file(file), {}
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as header:  # compares it with the file's length
            types = {name: header.get_slice(name).get_dtype() for name in header.keys()}
        if wide := [name for name, type_ in types.items() if type_ == "F64"]:
            raise ValueError(
                f"{file}: tensor {wide[0]} is float64, which MLX can't read; save it as float32"
            )
        return mx.load(str(file), return_metadata=True)
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ValueError(
            f"{file}: damaged or incomplete ({one_line(error)}); download it again"
        ) from None


def is_float(array: mx.array) -> bool:
    """Whether these are floating-point numbers, rather than quantised ones or indices."""
    return mx.issubdtype(array.dtype, mx.floating)


def check_tensors(model: Network, weights: Weights, folder: Path) -> None:
    """Raises ValueError naming the first tensor that is missing, unknown, mis-shaped or mistyped.

    folder: of the checkpoint, for the message.
    """
    expected = dict(tree_flatten(model.parameters()))

    def refuse(problem: str, names: list[str], detail: str = "") -> None:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise ValueError(
            f"{folder}: {problem} tensor {names[0]}{more}{detail}; the checkpoint does not fit its "
            "config.json, download it again"
        )

    if missing := [name for name in expected if name not in weights]:
        refuse("missing", missing)
    if unknown := [name for name in weights if name not in expected]:
        refuse("unknown", unknown)
    if wrong := [name for name in expected if weights[name].shape != expected[name].shape]:
        shapes = f" has shape {weights[wrong[0]].shape} instead of {expected[wrong[0]].shape}"
        refuse("mis-shaped", wrong, f": it{shapes}")
    if wrong := [name for name in expected if is_float(weights[name]) != is_float(expected[name])]:
        refuse("mistyped", wrong, f": it is {weights[wrong[0]].dtype}")


def check_projections(model: Network, folder: Path) -> None:
    """Raises ValueError naming the first linear layer whose weights are all zero.

    Damaged conversions have had such layers, and a model with them speaks or writes nonsense.
    folder: of the checkpoint, for the message. The first rows of a matrix are read, all of it only
    if these are zero.
    """
    for path, module in model.named_modules():
        names = [name for name in ("weight", "biases") if name in module]
        if not isinstance(module, nn.Linear | nn.QuantizedLinear) or not names:
            continue
        for rows in (slice(8), slice(None)):
            if any(mx.any(module[name][rows] != 0).item() for name in names):
                break
        else:
            raise ValueError(
                f"{folder}: tensor {path}.weight is zero; the checkpoint is damaged, take another"
            )
