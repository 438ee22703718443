"""Read a checkpoint of any family: configuration, network and weights, in any known layout."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
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

ORIGINAL_DTYPE = "original_dtype"
"""Key in the metadata of trained float32 weights: the type to load them in."""
AHEAD = 1 / 64
"""Largest part of all weights that is being read, beside the tensor that is waited for."""


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
    weights, metadata_of_mlx = read_weights(folder, family)
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
    weights = family.sanitize(model, weights, bool(metadata_of_mlx))
    quantize_layers(model, weights, entry)
    check_tensors(model, weights, folder)
    stored = None
    if metadata_of_mlx:
        named = DTYPES.get(metadata_of_mlx.get(ORIGINAL_DTYPE, ""))
        stored = named or weights[family.reference_tensor].dtype
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


def original_dtype(folder: Path) -> str:
    """Name of the type in which a checkpoint is loaded unless another one is asked for."""
    return str(read_checkpoint(folder, Precision()).dtype).rsplit(".", 1)[-1]


def _default_dtype(original: str) -> mx.Dtype:
    """bfloat16; the log says so if config.json names another type."""
    if DTYPES.get(original, mx.bfloat16) != mx.bfloat16:
        hint = f"loading bfloat16 (dtype {original} keeps it)"
        logger.warning("config.json asks for %s; %s", original, hint)
    return mx.bfloat16


def _is_matrix(name: str, value: mx.array) -> bool:
    """Whether this is an unquantised weight matrix of a linear layer or embedding."""
    return name.endswith(".weight") and value.ndim == 2 and is_float(value)


class _Reading:
    """Evaluates tensors in order, while MLX reads the next ones from the disk on other threads.

    Evaluating all at once would need memory for every tensor twice.
    """

    def __init__(self, largest: float):
        """largest: bytes of the tensors that are read ahead."""
        self.largest = largest
        self.begun: deque[list[mx.array]] = deque()
        self.size = 0

    def __call__(self, *trees: Any) -> None:
        arrays = [value for _, value in tree_flatten(trees)]
        mx.async_eval(arrays)
        self.begun.append(arrays)
        self.size += _bytes(arrays)
        while self.size > self.largest:
            self._wait()

    def _wait(self) -> None:
        arrays = self.begun.popleft()
        mx.eval(arrays)
        self.size -= _bytes(arrays)

    def finish(self) -> None:
        while self.begun:
            self._wait()


def _bytes(arrays: Iterable[mx.array]) -> int:
    return sum(value.nbytes for value in arrays)


def _assign(model: Network, weights: Weights) -> None:
    """Gives the model its weights and evaluates them, so that few are ever in memory twice.

    What the model makes of several tensors comes first, while there is room for the copies.
    """
    float32, reading = model.family.float32, _Reading(AHEAD * _bytes(weights.values()))
    final = []
    while weights:
        name, value = weights.popitem()
        is_linear = _is_matrix(name, value) and "embed" not in name
        if is_linear and not name.startswith(float32):
            value = kernels.matrix_layout(value)
        else:
            value = mx.contiguous(value)  # a transposed array would be copied at each use
        final.append((name, value))
    model.load_weights(final, strict=True)
    del final, value  # the model alone holds the weights, and can free what it replaces
    model.prepare(reading)
    for _, value in sorted(tree_flatten(model.parameters()), key=lambda each: -each[1].nbytes):
        reading(value)
    reading.finish()


def load_network(checkpoint: Checkpoint[N], has_free_dtype: bool) -> N:
    """Evaluates the weights, which the checkpoint then no longer holds, and returns the model.

    has_free_dtype: whether the type is the default; a CPU then keeps the type of the matrices,
    which are large, and computes in float32.
    """
    model, weights = checkpoint.model, checkpoint.weights
    if has_free_dtype and device.on_cpu():
        # Nothing else may refer to the tensors, which `_assign` frees when they are concatenated.
        weights |= cast_weights(
            {name: value for name, value in weights.items() if not _is_matrix(name, value)},
            mx.float32,
            model.family,
        )
    dtype = weights[model.family.reference_tensor].dtype
    _assign(model, weights)
    for hint in device.slowness_hints(dtype):
        logger.warning(hint)
    model.eval()
    return model
