"""Kernels for a GPU, and for 16-bit types on a CPU: MLX's fused functions and compiled ones.

Each is one kernel launch; `benchmarks/graph_counts.py` counts those of a patch.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn

from .compiled import fused


def linear(layer: nn.Module, x: mx.array) -> mx.array:
    return layer.as_linear(x) if isinstance(layer, nn.Embedding) else layer(x)


def rms_norm(x: mx.array, weight: mx.array, eps: float) -> mx.array:
    return mx.fast.rms_norm(x, weight, eps)


def layer_norm(x: mx.array, weight: mx.array, bias: mx.array, eps: float) -> mx.array:
    return mx.fast.layer_norm(x, weight, bias, eps)


@fused
def silu(x: mx.array) -> mx.array:
    return x * mx.sigmoid(x)


@fused
def swiglu(gate: mx.array, up: mx.array) -> mx.array:
    return gate * mx.sigmoid(gate) * up


def attention(queries: mx.array, keys: mx.array, values: mx.array, scale: float) -> mx.array:
    return mx.fast.scaled_dot_product_attention(queries, keys, values, scale=scale)


@fused
def gelu(x: mx.array) -> mx.array:
    return 0.5 * x * (1 + mx.erf(x * math.sqrt(0.5)))


@fused
def snake(x: mx.array, bias: mx.array, alpha: mx.array, amplitude: mx.array) -> mx.array:
    y = x + bias
    wave = mx.sin(alpha * y)
    return y + amplitude * (wave * wave)


@fused
def weighted_sum(weights: list[mx.array], terms: list[mx.array], *others: mx.array) -> mx.array:
    """Added in pairs of pairs: MLX fuses operations up to a depth of eleven."""
    terms = [*others, *(weight * term for weight, term in zip(weights, terms, strict=True))]
    while len(terms) > 1:
        odd = terms[len(terms) // 2 * 2 :]
        terms = [a + b for a, b in zip(terms[::2], terms[1::2], strict=False)] + odd
    return terms[0]


def depthwise(
    x: mx.array, weight: mx.array, dilation: int, weighted_sum: Callable = weighted_sum
) -> mx.array:
    kernel = len(weight)
    return weighted_sum(mx.split(weight, kernel), shifted(x, kernel, dilation))


def shifted(x: mx.array, count: int, step: int = 1) -> list[mx.array]:
    """x (B, L + (count - 1) * step, C) -> `count` views (B, L, C), each `step` further right."""
    length = x.shape[1] - (count - 1) * step
    return [x[:, start : start + length] for start in range(0, count * step, step)]


@fused
def scaled_sum(x: mx.array, y: mx.array, bias: mx.array, scale: mx.array) -> mx.array:
    return x + scale * (y + bias)


@fused
def modulate(x: mx.array, shift: mx.array, scale: mx.array) -> mx.array:
    return x * (1 + scale) + shift


@fused
def gated_sum(x: mx.array, y: mx.array, gate: mx.array) -> mx.array:
    return x + gate * y
