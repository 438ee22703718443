"""A folder or hub id -> a model, from upstream's, mlx-audio's or this package's files."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from .errors import one_line
from .layers import backend
from .model import VoxCPM2
from .models.voxcpm2.config import VoxCPM2Config
from .text.known_words import KnownWords
from .text.tokenizer import Tokenizer
from .weights import adapters, layouts
from .weights.adapter_files import StoredAdapter, read_adapter_if_any
from .weights.files import Weights, read_weights
from .weights.hub import DEMO, find_checkpoint
from .weights.lora_layers import lora_class
from .weights.quantization import (
    Quantization,
    find_recipe,
    quantization_entry,
    quantize_weights,
    settings_of,
)

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
    quantize: str | Quantization | None = None,
    adapter: str | Path | None = None,
    adapter_strength: float | None = None,
) -> VoxCPM2:
    """Loads a checkpoint from a folder, or from the Hugging Face hub (which keeps a cache).

    "demo" is a small voice that comes with the package and says some words only.

    dtype: "bfloat16", "float16" or "float32" for all but the AudioVAE, which stays float32.
    By default bfloat16; what an MLX converter wrote keeps the type it was given, "demo" float32.
    On a CPU the default is to keep so what is large, the matrices, and to compute in float32.
    revision: a branch, tag or commit of a hub repository.
    quantize: a recipe ("8bit", "4bit-dit8" …, see `quantization.RECIPES`) or a `Quantization`:
    the same model as from the converted checkpoint, made in memory.
    adapter, adapter_strength: a LoRA adapter to put on, see `VoxCPM2.load_adapter`.

    Raises FileNotFoundError for what is not there and ValueError for what is not a VoxCPM2
    checkpoint, or already quantised and to be quantised, each with one line that names the file
    or tensor and says what to do.
    """
    if dtype is None and path_or_repo == DEMO:
        dtype = mx.float32  # it is stored at 16 bits to be small; at 32 it is faster on a CPU
    precision = choose_precision(dtype, quantize)
    stored = read_adapter_if_any(adapter, adapter_strength)
    if stored is not None:
        lora_class()  # without it there is no need to read the model
    checkpoint = read_checkpoint(find_checkpoint(path_or_repo, revision), precision)
    model, weights = checkpoint.model, checkpoint.weights
    if dtype is None and backend.on_cpu():
        small = {name: value for name, value in weights.items() if not _is_matrix(name, value)}
        weights |= _all_cast(small, mx.float32)
    _assign(model, weights)
    model.join(mx.eval)
    model.audio_vae.derive(mx.eval)
    if stored is not None:
        adapters.put_on(model, stored)
    for hint in backend.slowness_hints(model.dtype):
        logger.warning(hint)
    return model.eval()


def load_lazily(path_or_repo: str | Path, revision: str | None = None) -> VoxCPM2:
    """The same, but each weight is read when it is first used: for those who only encode clips.

    Nothing is arranged for speaking fast.
    """
    folder = find_checkpoint(path_or_repo, revision)
    checkpoint = read_checkpoint(folder, Precision(mx.float32))  # the AudioVAE's in any case
    # A turned one would be copied at each use.
    whole = [(name, mx.contiguous(value)) for name, value in checkpoint.weights.items()]
    checkpoint.model.load_weights(whole, strict=True)
    return checkpoint.model.eval()


@dataclass(frozen=True)
class Precision:
    """What becomes of a checkpoint's numbers."""

    dtype: mx.Dtype | None = None
    """Of all but the AudioVAE; None is bfloat16, or what an MLX converter gave them."""
    quantization: Quantization | None = None
    must_be_original: bool = False
    """Whether to refuse what is quantised already."""
    adapter: StoredAdapter | None = None
    """To be fused into the numbers before they are rounded; only where they are the original."""


def choose_precision(
    dtype: str | mx.Dtype | None, quantize: str | Quantization | None
) -> Precision:
    """Raises ValueError for an unknown type or recipe, before anything is read."""
    if dtype is not None and dtype not in _DTYPES.values():
        if str(dtype) not in _DTYPES:
            raise ValueError(f"dtype is {dtype!r}; it must be bfloat16, float16 or float32")
        dtype = _DTYPES[str(dtype)]
    quantization = find_recipe(quantize)
    if quantize == "bf16":
        if dtype is not None and dtype != mx.bfloat16:
            raise ValueError("recipe 'bf16' is bfloat16; leave out the recipe or the other dtype")
        dtype = mx.bfloat16
    return Precision(dtype, quantization, must_be_original=quantize is not None)


@dataclass
class Checkpoint:
    """What `load_model` has before it computes anything."""

    data: dict
    """config.json; with "quantization" where layers were quantised here."""
    model: VoxCPM2
    """Without the weights, but with quantised layers where they belong."""
    weights: Weights
    """By the model's names and in its order, cast and quantised, but lazily."""
    dtype: mx.Dtype
    """Of the floating-point ones, but for the AudioVAE's."""


def read_checkpoint(folder: Path, precision: Precision) -> Checkpoint:
    """A folder in any of the three layouts. Raises what `load_model` raises."""
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"{folder}: no config.json here; give the folder of a VoxCPM2 checkpoint"
        )
    config, data = VoxCPM2Config.from_file(folder / "config.json")
    model = VoxCPM2(config, Tokenizer(folder / "tokenizer.json"))
    model.request_builder.known_words = KnownWords.of(folder)
    weights, written_by_mlx = read_weights(folder)
    entry = quantization_entry(data)
    if precision.must_be_original and (entry or _has_scales(weights)):
        raise ValueError(
            f"{folder} is quantised already; take the original, such as openbmb/VoxCPM2"
        )
    if layouts.is_mlx_audio(weights):
        weights = layouts.from_mlx_audio(model, weights, entry)
    elif not written_by_mlx:
        weights = layouts.from_upstream(model, weights)
    _quantize(model, weights, entry)
    _check(model, weights, folder)
    dtype = precision.dtype or _default_dtype(config, weights, written_by_mlx)
    if precision.adapter is not None:
        weights = adapters.fuse_weights(model, weights, precision.adapter)
    weights = _all_cast(weights, dtype)
    if precision.quantization is not None:
        entry = precision.quantization.entry(model)
        weights = quantize_weights(model, weights, entry)
        _quantize(model, weights, entry)
        data = {**data, "quantization": entry, "quantization_config": entry}
    ordered = {name: weights[name] for name, _ in tree_flatten(model.parameters())}
    return Checkpoint(data, model, ordered, dtype)


def _default_dtype(config: VoxCPM2Config, weights: Weights, written_by_mlx: bool) -> mx.Dtype:
    if written_by_mlx:
        return weights["base_lm.norm.weight"].dtype  # one type, also where a file mixes them
    if _DTYPES.get(config.dtype, mx.bfloat16) != mx.bfloat16:
        logger.warning(
            "config.json asks for %s; loading bfloat16 (dtype=%r keeps it)",
            config.dtype, config.dtype,
        )  # fmt: skip
    return mx.bfloat16


def _has_scales(weights: Weights) -> bool:
    return any(name.endswith(".scales") for name in weights)


def _all_cast(weights: Weights, dtype: mx.Dtype) -> Weights:
    """The floating-point ones; the AudioVAE's are float32 in any case."""

    def cast(name: str, value: mx.array) -> mx.array:
        if not _is_float(value):
            return value
        return value.astype(mx.float32 if name.startswith("audio_vae.") else dtype)

    return {name: cast(name, value) for name, value in weights.items()}


def _quantize(model: VoxCPM2, weights: Weights, entry: dict) -> None:
    """Layers that have scales become quantised ones."""

    def settings(path: str, module: nn.Module) -> dict | bool:
        quantised = hasattr(module, "to_quantized") and f"{path}.scales" in weights
        return settings_of(path, entry) if quantised else False

    if _has_scales(weights):
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


def _is_matrix(name: str, value: mx.array) -> bool:
    """That a linear layer or an embedding has, and is not quantised."""
    return name.endswith(".weight") and value.ndim == 2 and _is_float(value)


def _assign(model: VoxCPM2, weights: Weights) -> None:
    """Reads and computes one tensor after another, so that only one is ever in memory twice."""
    final = []
    for name in list(weights):
        value = weights.pop(name)
        is_embedding = "embed" in name
        if _is_matrix(name, value) and not name.startswith("audio_vae.") and not is_embedding:
            value = backend.arrange(value)
        else:
            value = mx.contiguous(value)  # a turned one would be copied at each use
        mx.eval(value)
        final.append((name, value))
    model.load_weights(final, strict=True)
