"""Kernels by name, chosen by the device at each call.

Every variant computes the same function up to rounding, and the tests hold them to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from . import device  # isort: skip  before MLX: a fast BLAS is loaded
from . import kernels_cpu, kernels_gpu, products_cpu  # isort: skip
from .compiled import fused  # isort: skip

import mlx.core as mx  # isort: skip
import mlx.nn as nn  # isort: skip


def linear(layer: nn.Module, x: mx.array) -> mx.array:
    """layer(x) for x (N, in) -> (N, out), in x's type even if the weights have fewer bits.

    An embedding is the linear layer with its matrix, as an output head has it.
    """
    return (products_cpu if device.on_cpu() else kernels_gpu).linear(layer, x)


def product(x: mx.array, weight: mx.array) -> mx.array:
    """x (..., in) times a weight (out, in) of its type -> (..., out)."""
    rows = x.reshape(-1, x.shape[-1])
    if device.on_cpu() and products_cpu.splits_products(len(rows), x.dtype):
        return products_cpu.few_rows_product(rows, weight).reshape(*x.shape[:-1], -1)
    return x @ weight.T


def multiplies_in_blocks(rows: int) -> bool:
    """Whether `product` is the faster way to so few rows of float32 outputs of a convolution."""
    return device.on_cpu() and products_cpu.splits_products(rows, mx.float32)


def add_linear(residual: mx.array, layer: nn.Module, x: mx.array, scale: float) -> mx.array:
    """residual + scale * layer(x), in one kernel if the layer is a plain matrix of x's type.

    Not with the reference BLAS, which adds each term of the product to the residual, which is
    large, and so rounds each time: Voxtral's logits have up to twice the error.
    """
    if adds_itself(layer, x):
        return mx.addmm(residual, x, layer.weight.T, alpha=scale)
    projected = linear(layer, x)
    return residual + (projected if scale == 1 else projected * scale)


def adds_itself(layer: nn.Module, x: mx.array) -> bool:
    """Whether `add_linear` is one kernel."""
    is_plain = type(layer) is nn.Linear and "bias" not in layer and layer.weight.dtype == x.dtype
    splits = products_cpu.splits_products(len(x), x.dtype)
    return is_plain and not device.has_slow_blas() and not splits


def matrix_layout(weight: mx.array) -> mx.array:
    """The matrix (out, in), laid out in memory as `x @ weight.T` reads it fastest.

    The reference BLAS walks along columns: it is twice as fast if they are contiguous.
    """
    return mx.contiguous(weight.T).T if device.has_slow_blas() else mx.contiguous(weight)


def rms_norm(x: mx.array, weight: mx.array, eps: float) -> mx.array:
    """x (..., H) over its root mean square, times the weight (arXiv 1910.07467)."""
    return _kernels(x.dtype).rms_norm(x, weight, eps)


def layer_norm(x: mx.array, weight: mx.array, bias: mx.array, eps: float) -> mx.array:
    """x (..., H) less its mean, over its deviation, times the weight, plus the bias."""
    return _kernels(x.dtype).layer_norm(x, weight, bias, eps)


def silu(x: mx.array) -> mx.array:
    """x times its sigmoid, elementwise."""
    return kernels_gpu.silu(x)


def swiglu(gate: mx.array, up: mx.array) -> mx.array:
    """silu(gate) * up, elementwise."""
    return _kernels(gate.dtype).swiglu(gate, up)


def gelu(x: mx.array) -> mx.array:
    """x times the normal distribution function of x, elementwise (arXiv 1606.08415)."""
    return _kernels(x.dtype).gelu(x)


def attention(queries: mx.array, keys: mx.array, values: mx.array, scale: float) -> mx.array:
    """Attention of all queries (B, heads, R, size) to all keys (B, heads, L, size)."""
    return _kernels(queries.dtype).attention(queries, keys, values, scale)


class SnakeConstants(NamedTuple):
    """Factors of `snake` that depend on alpha (C,) alone."""

    alpha: mx.array
    frequency: mx.array
    """alpha / pi."""
    amplitude: mx.array
    """1 / alpha, with upstream's 1e-9 against a division by zero."""

    @classmethod
    def of(cls, alpha: mx.array) -> SnakeConstants:
        return cls(alpha, alpha * (1 / math.pi), mx.reciprocal(alpha + 1e-9))


def snake(x: mx.array, bias: mx.array, constants: SnakeConstants) -> mx.array:
    """y + sin(alpha y)^2 / alpha with y = x + bias, elementwise; float32.

    Ziyin et al. 2020, arXiv 2006.08195.
    """
    if device.on_cpu():
        return kernels_cpu.snake(x, bias, constants.frequency, constants.amplitude)
    return kernels_gpu.snake(x, bias, constants.alpha, constants.amplitude)


def weighted_sum(weights: list[mx.array], terms: list[mx.array]) -> mx.array:
    """Sum of each weight times its term, elementwise; float32."""
    kernels = kernels_cpu if device.on_cpu() else kernels_gpu
    return kernels.weighted_sum(weights, terms)


def depthwise(x: mx.array, weight: mx.array, dilation: int) -> mx.array:
    """Each channel of x (B, (kernel - 1) * dilation + L, C) convolved by itself -> (B, L, C).

    weight (kernel, C). float32. MLX's own is a product per channel on a CPU, and slow once dilated.
    """
    kernels = kernels_cpu if device.on_cpu() else kernels_gpu
    return kernels.depthwise(x, weight, dilation)


def scaled_sum(x: mx.array, y: mx.array, bias: mx.array, scale: mx.array) -> mx.array:
    """x + scale * (y + bias), elementwise."""
    return kernels_gpu.scaled_sum(x, y, bias, scale)


def modulate(x: mx.array, shift: mx.array, scale: mx.array) -> mx.array:
    """x * (1 + scale) + shift, elementwise."""
    return kernels_gpu.modulate(x, shift, scale)


def gated_sum(x: mx.array, y: mx.array, gate: mx.array) -> mx.array:
    """x + gate * y, elementwise."""
    return kernels_gpu.gated_sum(x, y, gate)


def map_rows(function: Callable[[mx.array], mx.array], rows: mx.array) -> mx.array:
    """function(rows), which treats each row alone: halves on two cores if a product uses one."""
    if device.multiplies_on_one_core(rows.dtype):
        return products_cpu.on_two_cores(function, rows)
    return function(rows)


def rope(
    x: mx.array, start: int | mx.array, periods: mx.array, table: tuple[mx.array, mx.array]
) -> mx.array:
    """x (B, heads, L, size) rotated by its positions from `start` on, an int or (B,).

    periods (size / 2,): positions per radian; table: cosines and sines (positions, size / 2) of
    the angles. Negative positions, which are padding, count as 0 in the table.

    A GPU takes `mx.fast.rope`, one kernel. On a CPU that falls back to primitives, which take 1.1
    times as long as the table; and in float32 the table has upstream's angles to the last digit.
    """
    if x.dtype != mx.float32 and not device.on_cpu():
        size = x.shape[-1]
        settings = {"traditional": False, "base": None, "scale": 1.0}
        return mx.fast.rope(x, size, **settings, offset=start, freqs=periods)
    if isinstance(start, int):
        positions = slice(start, start + x.shape[2])
    else:
        positions = mx.maximum(start[:, None, None] + mx.arange(x.shape[2]), 0)
    cos, sin = (each[positions] for each in table)
    halves = _rotate(*mx.split(x.astype(mx.float32), 2, axis=-1), cos, sin)
    return mx.concatenate(halves, axis=-1).astype(x.dtype)


@fused
def _rotate(
    first: mx.array, second: mx.array, cos: mx.array, sin: mx.array
) -> tuple[mx.array, mx.array]:
    return first * cos - second * sin, second * cos + first * sin


def split_heads(
    qkv: mx.array,
    batch: int,
    heads: int,
    kv_heads: int,
    rope: Callable[[mx.array], mx.array] | None = None,
) -> tuple[mx.array, mx.array, mx.array]:
    """qkv (B * L, (heads + 2 kv_heads) * size) -> queries, keys, values (B, heads, L, size).

    rope: rotates queries and keys, (B, heads + kv_heads, L, size).
    """
    count = heads + 2 * kv_heads
    qkv = qkv.reshape(batch, -1, count, qkv.shape[1] // count).transpose(0, 2, 1, 3)
    rotated, values = mx.split(qkv, [heads + kv_heads], axis=1)
    if rope is not None:
        rotated = rope(rotated)
    queries, keys = mx.split(rotated, [heads], axis=1)
    return queries, keys, values


def attend(
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    scale: float,
    mask: str | mx.array | None = None,
) -> mx.array:
    """queries (B, heads, R, size), keys and values (B, kv_heads, L, size) -> (B * R, heads * size).

    Each key head serves as many query heads as there are times as many of them.
    """
    shape, kv_heads = queries.shape, keys.shape[1]
    if mask is None and stacks_query_heads(shape[2], shape[1] // kv_heads):
        queries = queries.reshape(shape[0], kv_heads, -1, shape[3])
    mixed = mx.fast.scaled_dot_product_attention(queries, keys, values, scale=scale, mask=mask)
    return mixed.reshape(shape).transpose(0, 2, 1, 3).reshape(-1, shape[1] * shape[3])


def fuses_gate_and_up() -> bool:
    """Whether the MLP's two projections of one input are one product.

    A GPU saves a kernel. A CPU's `swiglu` reads whole rows in vectors, but the halves of a row
    number by number.
    """
    return not device.on_cpu()


def stacks_query_heads(length: int, group: int) -> bool:
    """Whether the `group` query heads of one key head are one head of `length * group` queries.

    A CPU then has fewer products to compute. Metal's fused attention takes up to eight queries per
    head only if those of a key head are at most 32, and any number above eight: unstacked, the
    local encoder's five queries of eight heads would take four kernels for one.
    """
    return device.on_cpu() or (length <= 8 and length * group > 32)


def _kernels(dtype: mx.Dtype):
    """The module for this type: those for a CPU are written for float32."""
    return kernels_cpu if device.on_cpu() and dtype == mx.float32 else kernels_gpu
