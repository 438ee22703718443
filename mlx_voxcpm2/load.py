"""Load a model from a folder or a hub repository, by its family and in any known layout."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import mlx.core as mx
from mlx.utils import tree_flatten

from .activity import activity
from .documents import read_json
from .layers import device, kernels
from .model import VoxCPM2
from .models.family import Family, Weights
from .models.voxcpm2.config import VoxCPM2Config
from .models.voxcpm2.family import VOXCPM2
from .text.known_words import KnownWords
from .text.tokenizer import Tokenizer
from .weights import adapters
from .weights.adapter_files import StoredAdapter, read_adapter_if_given
from .weights.files import check_tensors, is_float, read_weights
from .weights.hub import DEMO, find_checkpoint
from .weights.quantization import (
    QUANTIZATION_NAMES,
    Quantization,
    dequantize_weights,
    find_recipe,
    has_scales,
    quantization_entry,
    quantize_layers,
    quantize_weights,
)

logger = logging.getLogger("mlx_voxcpm2")

DtypeName = Literal["bfloat16", "bf16", "float16", "fp16", "float32", "fp32"]

_DTYPES = {"bf16": mx.bfloat16, "fp16": mx.float16, "fp32": mx.float32}
_DTYPES |= {str(dtype).rsplit(".", 1)[-1]: dtype for dtype in _DTYPES.values()}


def _build_voxcpm2(config: VoxCPM2Config, folder: Path) -> VoxCPM2:
    model = VoxCPM2(config, Tokenizer(folder / "tokenizer.json"))
    model.request_builder.known_words = KnownWords.of(folder)
    return model


_FAMILIES = (VOXCPM2,)
_BUILDERS: dict[str, Callable[[Any, Path], VoxCPM2]] = {VOXCPM2.title: _build_voxcpm2}
"""Constructors by family: configuration and the checkpoint's folder -> model."""


def load_model(
    path_or_repo: str | Path,
    dtype: DtypeName | mx.Dtype | None = None,
    revision: str | None = None,
    quantize: str | Quantization | None = None,
    adapter: str | Path | None = None,
    adapter_strength: float | None = None,
) -> VoxCPM2:
    """Loads a checkpoint from a folder, or from the Hugging Face hub (which keeps a cache).

    "demo" is a small voice that comes with the package and says some words only.

    dtype: "bfloat16", "float16" or "float32" for all but the AudioVAE, which stays float32. The
    default is bfloat16; for an MLX converter's files their own type, for "demo" float32. On a CPU
    the default keeps the type of the matrices, which are large, and computes in float32.
    revision: a branch, tag or commit of a hub repository.
    quantize: a recipe ("8bit", "4bit-dit8" …, see `quantization.RECIPES`) or a `Quantization`:
    the same model as from the converted checkpoint, made in memory.
    adapter, adapter_strength: a LoRA adapter to attach, see `VoxCPM2.load_adapter`.

    Raises FileNotFoundError for a missing file and ValueError for an unsuitable or damaged one,
    each with one line that names the file or tensor and says what to do.
    """
    device.free_streams_at_thread_end()
    if dtype is None and path_or_repo == DEMO:
        dtype = mx.float32  # its file has 16 bits to be small; float32 is faster on a CPU
    precision = choose_precision(dtype, quantize)
    stored = read_adapter_if_given(adapter, adapter_strength)
    folder = find_checkpoint(path_or_repo, revision)
    with activity(f"loading {path_or_repo}"):
        model = _load(folder, precision, has_free_dtype=dtype is None)
    if stored is not None:
        adapters.attach(model, stored)
    for hint in device.slowness_hints(model.dtype):
        logger.warning(hint)
    model.eval()
    return model


def _load(folder: Path, precision: Precision, has_free_dtype: bool) -> VoxCPM2:
    """Reads and evaluates the weights; a CPU computes in float32 if the type is free."""
    checkpoint = read_checkpoint(folder, precision)
    model, weights = checkpoint.model, checkpoint.weights
    if has_free_dtype and device.on_cpu():
        small = {name: value for name, value in weights.items() if not _is_matrix(name, value)}
        weights |= _cast(small, mx.float32, model.family)
    _assign(model, weights)
    model.prepare(mx.eval)
    return model


def load_lazily(path_or_repo: str | Path, revision: str | None = None) -> VoxCPM2:
    """Loads a model whose weights are read at first use: for encoding clips, slow for speaking."""
    folder = find_checkpoint(path_or_repo, revision)
    checkpoint = read_checkpoint(folder, Precision(mx.float32))  # the AudioVAE's in any case
    # A transposed array would be copied at each use.
    whole = [(name, mx.contiguous(value)) for name, value in checkpoint.weights.items()]
    checkpoint.model.load_weights(whole, strict=True)
    checkpoint.model.eval()
    return checkpoint.model


@dataclass(frozen=True)
class Precision:
    """How to change a checkpoint's weights while it is read."""

    dtype: mx.Dtype | None = None
    """Type of all weights but the AudioVAE's; None is bfloat16, or an MLX converter's choice."""
    quantization: Quantization | None = None
    unquantized: bool = False
    """Whether to refuse a checkpoint that is quantised already."""
    dequantize: bool = False
    """Whether to dequantise a quantised checkpoint, and to refuse any other."""
    adapter: StoredAdapter | None = None
    """Adapter to fuse into the weights before they are rounded."""

    @property
    def needs_unquantized(self) -> bool:
        """Whether a checkpoint that is quantised already can't be used."""
        changed = self.quantization is not None or self.adapter is not None or self.unquantized
        return changed and not self.dequantize


def choose_precision(
    dtype: str | mx.Dtype | None, quantize: str | Quantization | None
) -> Precision:
    """Precision by the arguments of `load_model`. Raises ValueError for an unknown one."""
    chosen = None
    if dtype is not None:
        chosen = dtype if isinstance(dtype, mx.Dtype) else _DTYPES.get(str(dtype))
        if chosen is None or chosen not in _DTYPES.values():
            raise ValueError(f"dtype is {dtype!r}; it must be bfloat16, float16 or float32")
    quantization = find_recipe(quantize)
    if quantize == "bf16":
        if chosen is not None and chosen != mx.bfloat16:
            raise ValueError("recipe 'bf16' is bfloat16; leave out the recipe or the other dtype")
        chosen = mx.bfloat16
    return Precision(chosen, quantization, unquantized=quantize == "bf16")


@dataclass
class Checkpoint:
    """A checkpoint that was read, but not evaluated."""

    data: dict
    """Content of config.json; with "quantization" if layers were quantised here."""
    model: VoxCPM2
    """The model without its weights, but with quantised layers."""
    weights: Weights
    """Tensors by the model's names and in its order, cast and quantised; lazy."""
    dtype: mx.Dtype
    """Type of the floating-point weights, except the AudioVAE's."""


def read_config(folder: Path) -> tuple[Family, dict]:
    """Family of a checkpoint, and the content of its config.json.

    Raises FileNotFoundError or ValueError, in one line, also for an unknown family.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise FileNotFoundError(
            f"{folder}: no config.json here; give the folder of a VoxCPM2 checkpoint"
        )
    data = read_json(file, "download the file again")
    if not isinstance(data, dict):
        raise ValueError("config.json: expected an object; take the file of a VoxCPM2 release")
    # The files of VoxCPM 1.x name no architecture.
    name = str(data.get("architecture", data.get("model_type", "voxcpm"))).lower()
    for family in _FAMILIES:
        if name in family.architectures:
            return family, data
    known = ", ".join(repr(family.architectures[0]) for family in _FAMILIES)
    raise ValueError(f"config.json: architecture is {name!r}; this package runs {known} only")


def read_checkpoint(folder: Path, precision: Precision) -> Checkpoint:
    """Reads a folder in any layout of its family. Raises the errors of `load_model`."""
    family, data = read_config(folder)
    config = family.read_config(data)
    model = _BUILDERS[family.title](config, folder)
    weights, written_by_mlx = read_weights(folder, family)
    entry = quantization_entry(data)
    is_quantized = bool(entry) or has_scales(weights)
    if precision.needs_unquantized and is_quantized:
        raise ValueError(
            f"{folder} is quantised already; take the original, such as {family.original}, or "
            "dequantise it by convert first"
        )
    if precision.dequantize:
        if not is_quantized:
            raise ValueError(f"{folder} is not quantised; leave dequantize out")
        weights, entry = dequantize_weights(weights, ("",), entry), {}
        data = {name: value for name, value in data.items() if name not in QUANTIZATION_NAMES}
    weights = dequantize_weights(weights, family.float32, entry)
    weights = family.sanitize(model, weights, written_by_mlx)
    quantize_layers(model, weights, entry)
    check_tensors(model, weights, folder)
    stored = weights[family.reference_tensor].dtype if written_by_mlx else None
    dtype = precision.dtype or stored or _default_dtype(config.dtype)
    if precision.adapter is not None:
        weights = adapters.fuse_weights(model, weights, precision.adapter)
    weights = _cast(weights, dtype, family)
    if precision.quantization is not None:
        entry = precision.quantization.entry(model)
        weights = quantize_weights(model, weights, entry)
        quantize_layers(model, weights, entry)
        data = {**data, "quantization": entry, "quantization_config": entry}
    ordered = {name: weights[name] for name, _ in tree_flatten(model.parameters())}
    return Checkpoint(data, model, ordered, dtype)


def _default_dtype(original: str) -> mx.Dtype:
    """bfloat16; the log says so if config.json names another type."""
    if _DTYPES.get(original, mx.bfloat16) != mx.bfloat16:
        hint = f"loading bfloat16 (dtype={original!r} keeps it)"
        logger.warning("config.json asks for %s; %s", original, hint)
    return mx.bfloat16


def _cast(weights: Weights, dtype: mx.Dtype, family: Family) -> Weights:
    """Casts the floating-point weights, except those that the family keeps in float32."""

    def cast(name: str, value: mx.array) -> mx.array:
        if not is_float(value):
            return value
        return value.astype(mx.float32 if name.startswith(family.float32) else dtype)

    return {name: cast(name, value) for name, value in weights.items()}


def _is_matrix(name: str, value: mx.array) -> bool:
    """Whether this is an unquantised weight matrix of a linear layer or embedding."""
    return name.endswith(".weight") and value.ndim == 2 and is_float(value)


def _assign(model: VoxCPM2, weights: Weights) -> None:
    """Evaluates one tensor after another, so that only one is ever in memory twice."""
    final, float32 = [], model.family.float32
    for name in list(weights):
        value = weights.pop(name)
        is_linear = _is_matrix(name, value) and "embed" not in name
        if is_linear and not name.startswith(float32):
            value = kernels.matrix_layout(value)
        else:
            value = mx.contiguous(value)  # a transposed array would be copied at each use
        mx.eval(value)
        final.append((name, value))
    model.load_weights(final, strict=True)
