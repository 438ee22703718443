"""A folder or hub id -> a model, from upstream's, mlx-audio's or this package's files."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from . import backend, layouts
from .config import VoxCPM2Config
from .errors import one_line
from .hub import find_checkpoint
from .layouts import Weights
from .model import VoxCPM2
from .tokenizer import Tokenizer
from .torch_file import load_torch_file

logger = logging.getLogger("mlx_voxcpm2")

_DTYPES = {
    "bfloat16": mx.bfloat16, "bf16": mx.bfloat16,
    "float16": mx.float16, "fp16": mx.float16,
    "float32": mx.float32, "fp32": mx.float32,
}  # fmt: skip


def load_model(
    path_or_repo: str | Path,
    dtype: str | mx.Dtype | None = None,
    revision: str | None = None,
) -> VoxCPM2:
    """Loads a checkpoint from a folder, or from the Hugging Face hub (which keeps a cache).

    dtype: "bfloat16", "float16" or "float32" for all but the AudioVAE, which stays float32.
    By default bfloat16; what an MLX converter wrote keeps the type it was given.
    revision: a branch, tag or commit of a hub repository.

    Raises FileNotFoundError for what is not there and ValueError for what is not a VoxCPM2
    checkpoint, each with one line that names the file or tensor and says what to do.
    """
    wanted = None if dtype is None else _parse_dtype(dtype)
    folder = find_checkpoint(path_or_repo, revision)
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"{folder}: no config.json here; give the folder of a VoxCPM2 checkpoint"
        )
    config, data = VoxCPM2Config.from_file(folder / "config.json")
    model = VoxCPM2(config, Tokenizer(folder / "tokenizer.json"))
    weights, written_by_mlx = _read_weights(folder)
    quantization = data.get("quantization") or data.get("quantization_config") or {}
    if layouts.is_mlx_audio(weights):
        weights = layouts.from_mlx_audio(model, weights, quantization)
    elif not written_by_mlx:
        weights = layouts.from_upstream(model, weights)
    _quantize(model, weights, quantization)
    if wanted is None and not written_by_mlx:
        wanted = mx.bfloat16
        if _DTYPES.get(config.dtype, wanted) != wanted:
            logger.warning(
                "config.json asks for %s; loading bfloat16 (dtype=%r keeps it)",
                config.dtype, config.dtype,
            )  # fmt: skip
    _check(model, weights, folder)
    if wanted is None:
        wanted = weights["base_lm.norm.weight"].dtype  # one type, also where a file mixes them
    _assign(model, weights, wanted)
    model.join(mx.eval)
    if hint := backend.slow_blas_hint():
        logger.warning(hint)
    return model.eval()


def _parse_dtype(dtype: str | mx.Dtype) -> mx.Dtype:
    if dtype in _DTYPES.values():
        return dtype
    if str(dtype) not in _DTYPES:
        raise ValueError(f"dtype is {dtype!r}; it must be bfloat16, float16 or float32")
    return _DTYPES[str(dtype)]


def _read_weights(folder: Path) -> tuple[Weights, bool]:
    """All tensors, still on disk, and whether an MLX program wrote them."""
    weights: Weights = {}
    written_by_mlx = False
    for file in _model_files(folder):
        tensors, metadata = _read_file(file)
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
            tensors, _ = _read_file(folder / name)
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
            names = sorted(set(shard_of.values()))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(f"{index}: not an index of shards; download it again") from None
        files = [folder / Path(name).name for name in names]
    else:
        whole = folder / "model.safetensors"
        pickled = folder / "pytorch_model.bin"
        files = [pickled if pickled.is_file() and not whole.is_file() else whole]
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"{file}: no such file; download the whole checkpoint")
    return files


def _read_file(file: Path) -> tuple[Weights, dict]:
    if file.suffix != ".safetensors":
        return load_torch_file(file), {}
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy"):  # compares the header with the file's length
            pass
        return mx.load(str(file), return_metadata=True)
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ValueError(
            f"{file}: damaged or incomplete ({one_line(error)}); download it again"
        ) from None


def _quantize(model: VoxCPM2, weights: Weights, quantization: dict) -> None:
    """Layers that have scales become quantised ones."""

    def settings(path: str, module: nn.Module) -> dict | bool:
        quantised = hasattr(module, "to_quantized") and f"{path}.scales" in weights
        return layouts.quantization_of(path, quantization) if quantised else False

    if any(name.endswith(".scales") for name in weights):
        try:
            nn.quantize(model, class_predicate=settings)
        except RuntimeError as error:
            raise ValueError(f"config.json: quantization: {one_line(error)}") from None


def _check(model: VoxCPM2, weights: Weights, folder: Path) -> None:
    """Raises ValueError naming the first tensor that is missing, unknown or of a wrong shape."""
    expected = dict(tree_flatten(model.parameters()))

    def complain(what: str, names: list[str], detail: str = "") -> None:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise ValueError(
            f"{folder}: {what} tensor {names[0]}{more}{detail}; the checkpoint does not fit its "
            "config.json, download it again"
        )

    if missing := [name for name in expected if name not in weights]:
        complain("missing", missing)
    if unknown := [name for name in weights if name not in expected]:
        complain("unknown", unknown)
    if wrong := [name for name in expected if weights[name].shape != expected[name].shape]:
        shapes = f" has shape {weights[wrong[0]].shape} instead of {expected[wrong[0]].shape}"
        complain("mis-shaped", wrong, f": it{shapes}")
    if wrong := [
        name for name in expected if _is_float(weights[name]) != _is_float(expected[name])
    ]:
        complain("mistyped", wrong, f": it is {weights[wrong[0]].dtype}")


def _is_float(array: mx.array) -> bool:
    return mx.issubdtype(array.dtype, mx.floating)


def _assign(model: VoxCPM2, weights: Weights, dtype: mx.Dtype | None) -> None:
    """Casts and reads one tensor after another, so that only one is ever in memory twice."""
    final = []
    for name in list(weights):
        value = weights.pop(name)
        target = mx.float32 if name.startswith("audio_vae.") else dtype
        if target is not None and _is_float(value):
            value = value.astype(target)
        is_matrix = value.ndim == 2 and _is_float(value)
        if is_matrix and not name.startswith("audio_vae.") and "embed" not in name:
            value = backend.arrange(value)
        else:
            value = mx.contiguous(value)  # a turned one would be copied at each use
        mx.eval(value)
        final.append((name, value))
    model.load_weights(final, strict=True)
