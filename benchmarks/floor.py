"""The least time that a patch takes on a machine: its weights read, its matrix products computed.

Both are measured on the spot, by `speed.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import mlx.core as mx
import mlx.nn as nn

from mlx_voxcpm2.layers import kernels
from mlx_voxcpm2.layers.compiled import FUSION
from mlx_voxcpm2.model import VoxCPM2

Product = tuple[nn.Module, int]
"""A linear layer, and of how many rows it takes the product."""
READ, WIDTH = 256 * 2**20, 4096
"""Bytes of a float32 matrix that no cache holds, and its columns."""
ROUNDS = 7


def bandwidth() -> float:
    """Bytes a second at which the product of one row reads a matrix, as a step of a model does."""
    layer, row = nn.Linear(WIDTH, READ // 4 // WIDTH, bias=False), mx.ones((1, WIDTH))
    mx.eval(layer.parameters(), row)
    return READ / _least_seconds(lambda: mx.eval(kernels.linear(layer, row)))


def products_seconds(model: VoxCPM2, speak: Callable[[], object]) -> float:
    """Seconds that the transformers' matrix products of one patch take, and nothing else.

    speak: generates two patches or more.
    """
    inputs: dict[tuple[int, int], mx.array] = {}

    def compute(products: list[Product]) -> list[mx.array]:
        return [kernels.linear(layer, inputs[rows, width(layer)]) for layer, rows in products]

    by_patch: list[list[Product]] = []
    with recorded_products(model, by_patch):
        speak()
    products = by_patch[1]
    for layer, rows in products:
        inputs[rows, width(layer)] = mx.ones((rows, width(layer)), dtype=model.dtype)
    mx.eval(list(inputs.values()))
    return _least_seconds(lambda: mx.eval(compute(products)))


def _least_seconds(function: Callable[[], None]) -> float:
    seconds = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def width(layer: nn.Module) -> int:
    """Number of columns of a linear layer's matrix, quantised or not."""
    if isinstance(layer, nn.QuantizedLinear):
        return layer.weight.shape[1] * 32 // layer.bits
    return layer.weight.shape[1]


@contextmanager
def recorded_products(model: VoxCPM2, found: list[list[Product]]) -> Iterator[None]:
    """Collects the products of each patch apart, those of the prefill with the first one's."""
    linear, add_linear, sample = kernels.linear, kernels.add_linear, model.sample_patch
    fused = FUSION.is_on
    found.append([])

    def recorded_linear(layer: nn.Module, x: mx.array) -> mx.array:
        found[-1].append((layer, x.shape[0]))
        return linear(layer, x)

    def recorded_add(residual: mx.array, layer: nn.Module, x: mx.array, scale: float) -> mx.array:
        return residual + scale * recorded_linear(layer, x)

    def recorded_sample(*arguments) -> mx.array:
        patch = sample(*arguments)
        found.append([])
        return patch

    kernels.linear, kernels.add_linear = recorded_linear, recorded_add
    model.sample_patch = recorded_sample
    FUSION.is_on = False  # a compiled function calls nothing
    try:
        yield
    finally:
        kernels.linear, kernels.add_linear, FUSION.is_on = linear, add_linear, fused
        del model.sample_patch
