"""Read a checkpoint of any family: configuration, network and weights, in any known layout."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import mlx.core as mx
from mlx.utils import tree_flatten

from ..documents import read_json
from ..errors import option
from ..layers import device, kernels
from ..models.families import find_family
from ..models.family import Family, Network, Weights
from . import adapters
from .files import check_tensors, is_float, read_weights
from .precision import DTYPES, Precision, cast_weights
from .quantization import (
    QUANTIZATION_NAMES,
    dequantize_weights,
    has_scales,
    quantization_entry,
    quantize_layers,
    quantize_weights,
)

logger = logging.getLogger("mlx_voxcpm2")

N = TypeVar("N", bound=Network)

GROUPS = 64
"""Number of groups in which the weights are evaluated, or more. Fewer load a little faster, but the
peak of memory then depends on how the reading threads take turns."""


@dataclass
class Checkpoint(Generic[N]):
    """A checkpoint that was read, but not evaluated."""

    data: dict
    """Content of config.json; with "quantization" if layers were quantised here."""
    model: N
    """The network without its weights, but with quantised layers."""
    weights: Weights
    """Tensors by the network's names and in its order, cast and quantised; lazy."""
    dtype: mx.Dtype
    """Type of the floating-point weights, except those that the family keeps in float32."""


class OtherFamilyError(ValueError):
    """A checkpoint is of another family than the one that was to be loaded."""

    def __init__(self, folder: Path, found: Family, expected: str):
        super().__init__(
            f"{folder} is a checkpoint of {found.title}, not of {expected}; load it by "
            f"{found.loader}"
        )
        self.found = found


def read_config(folder: Path, expected: Family | None = None) -> tuple[Family, dict]:
    """Family of a checkpoint, and the content of its config.json.

    Raises FileNotFoundError or ValueError, in one line, also for an unknown family, and for
    another one than is expected.
    """
    file = folder / "config.json"
    title = "VoxCPM2" if expected is None else expected.title
    if not file.is_file():
        raise FileNotFoundError(
            f"{folder}: no config.json here; give the folder of a {title} checkpoint"
        )
    data = read_json(file, "download the file again")
    if not isinstance(data, dict):
        raise ValueError(f"config.json: expected an object; take the file of a {title} release")
    family = find_family(data)
    if expected not in (None, family):
        raise OtherFamilyError(folder, family, title)
    return family, data


def read_checkpoint(
    folder: Path,
    precision: Precision,
    expected: Family | None = None,
    build: Callable[[Any], Any] | None = None,
) -> Checkpoint[Any]:
    """Reads a folder in any layout of its family. Raises the errors of `load_model`.

    expected: the only family to accept. build: makes the model of the family's configuration, by
    default the family's network.
    """
    family, data = read_config(folder, expected)
    config = family.read_config(data)
    model = (build or family.network)(config)
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
            raise ValueError(f"{folder} is not quantised; leave {option('dequantize')} out")
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
    weights = cast_weights(weights, dtype, family)
    if precision.quantization is not None:
        entry = precision.quantization.entry(model)
        weights = quantize_weights(model, weights, entry)
        quantize_layers(model, weights, entry)
        data = {**data, "quantization": entry, "quantization_config": entry}
    ordered = {name: weights[name] for name, _ in tree_flatten(model.parameters())}
    return Checkpoint(data, model, ordered, dtype)


def _default_dtype(original: str) -> mx.Dtype:
    """bfloat16; the log says so if config.json names another type."""
    if DTYPES.get(original, mx.bfloat16) != mx.bfloat16:
        hint = f"loading bfloat16 (dtype {original} keeps it)"
        logger.warning("config.json asks for %s; %s", original, hint)
    return mx.bfloat16


def _is_matrix(name: str, value: mx.array) -> bool:
    """Whether this is an unquantised weight matrix of a linear layer or embedding."""
    return name.endswith(".weight") and value.ndim == 2 and is_float(value)


def _groups(weights: Weights) -> list[list[str]]:
    """Names of the tensors, the largest first, in groups of at most a `GROUPS`th of all bytes.

    A larger tensor is a group of its own.
    """
    limit = sum(value.nbytes for value in weights.values()) / GROUPS
    groups: list[list[str]] = []
    room = 0.0
    for name in sorted(weights, key=lambda name: -weights[name].nbytes):
        size = weights[name].nbytes
        if size > room or not groups:
            groups.append([])
            room = limit
        groups[-1].append(name)
        room -= size
    return groups


def _assign(model: Network, weights: Weights) -> None:
    """Evaluates one group of tensors after another, so that only one is ever in memory twice.

    MLX reads the tensors of a group from the disk at the same time. The largest come first, while
    there is room for their copies.
    """
    final, float32 = [], model.family.float32
    for names in _groups(weights):
        group = []
        for name in names:
            value = weights.pop(name)
            is_linear = _is_matrix(name, value) and "embed" not in name
            if is_linear and not name.startswith(float32):
                value = kernels.matrix_layout(value)
            else:
                value = mx.contiguous(value)  # a transposed array would be copied at each use
            group.append(value)
        mx.eval(group)
        final += zip(names, group, strict=True)
    model.load_weights(final, strict=True)


def load_network(checkpoint: Checkpoint[N], has_free_dtype: bool) -> N:
    """Evaluates the weights, which the checkpoint then no longer holds, and returns the model.

    has_free_dtype: whether the type is the default; a CPU then keeps the type of the matrices,
    which are large, and computes in float32.
    """
    model, weights = checkpoint.model, checkpoint.weights
    if has_free_dtype and device.on_cpu():
        # Nothing else may refer to the tensors: `_assign` frees each when it has its final layout.
        weights |= cast_weights(
            {name: value for name, value in weights.items() if not _is_matrix(name, value)},
            mx.float32,
            model.family,
        )
    dtype = weights[model.family.reference_tensor].dtype
    _assign(model, weights)
    model.prepare(mx.eval)
    for hint in device.slowness_hints(dtype):
        logger.warning(hint)
    model.eval()
    return model
