"""Kernels for MLX's CPU backend, in float32 unless said otherwise.

MLX compiles elementwise operations into vector code, but calls the C library's sine and exponential
number by number. A fused kernel is vector code if it is at most eleven operations deep, reads at
most ten arrays and does not write over one of them.

Gains are against the functions of `kernels_gpu`, on two cores of a Zen 4 server with MLX 0.32 and
OpenBLAS: ratios of medians of calls in turn, by `benchmarks/kernels.py` unless said otherwise.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from functools import partial

import mlx.core as mx
import mlx.nn as nn

from . import device, kernels_gpu
from .compiled import fused
from .kernels_cpu_rows import attention, layer_norm, rms_norm

__all__ = [
    "attention",
    "gelu",
    "layer_norm",
    "linear",
    "on_two_cores",
    "rms_norm",
    "snake",
    "splits_products",
    "swiglu",
    "weighted_sum",
]

# One block's float32 weights, 2 MB, fit the cache and memory that was just in use. OpenBLAS
# multiplies as many without copying them first.
_BLOCK_WEIGHTS = 2**19
# Rows up to which that copy takes longer than the product.
_ROWS_TO_SPLIT = 4
# Smaller products take less time than a second core takes to start.
_TWO_CORE_WEIGHTS = 2**18
# Rows up to which MLX's quantized_matmul, which dequantises once per row, is the faster one.
_FEW_ROWS = 2


def linear(layer: nn.Module, x: mx.array) -> mx.array:
    """Products in any type; the weights are widened to x's type, if it has more bits.

    One row times a matrix of 8192 x 3072 is 2.6 times as fast in blocks.
    """
    if type(layer) in (nn.QuantizedLinear, nn.QuantizedEmbedding):
        y = _quantized_product(layer, x)
    elif type(layer) not in (nn.Linear, nn.Embedding):
        return layer(x)
    elif layer.weight.dtype != x.dtype:
        y = _product_in_blocks(x, lambda weight: weight.astype(x.dtype), layer.weight)
    elif splits_products(x):
        y = _product_in_blocks(x, lambda weight: weight, layer.weight)
    else:
        return kernels_gpu.linear(layer, x)
    return y + layer.bias if "bias" in layer else y


def splits_products(x: mx.array) -> bool:
    """Whether products of x (N, in) are computed in blocks: OpenBLAS would copy the matrix."""
    return len(x) <= _ROWS_TO_SPLIT and x.dtype == mx.float32 and device.uses_openblas()


def _quantized_product(layer: nn.QuantizedLinear, x: mx.array) -> mx.array:
    """Many rows: the matrix is dequantised once and multiplied by BLAS.

    2.6 times as fast for 22 rows and 8 bits. One or two rows: each core computes half of the
    outputs, 1.1 to 1.3 times as fast on busy cores.
    """
    names = ("weight", "scales", "biases")
    stored = [layer[name] for name in names if layer.get(name) is not None]
    settings = {"group_size": layer.group_size, "bits": layer.bits, "mode": layer.mode}
    if len(x) > _FEW_ROWS and x.dtype == mx.float32:
        if layer.mode == "affine":  # the scales of other modes are codes
            stored[1:] = [each.astype(x.dtype) for each in stored[1:]]
        return _product_in_blocks(x, partial(mx.dequantize, **settings), *stored)
    multiply = partial(mx.quantized_matmul, x, **settings)
    if len(x) <= _FEW_ROWS and len(layer.weight) * x.shape[-1] > _TWO_CORE_WEIGHTS:
        return on_two_cores(multiply, *stored, axis=-1)
    return multiply(*stored)


def _product_in_blocks(x: mx.array, widen: Callable[..., mx.array], *stored: mx.array) -> mx.array:
    """x (N, in) times the transpose of `widen(*stored)`, some rows of the matrix at a time.

    A large matrix widened at once would be new memory, which takes ten times as long as the
    product. At the released size a patch from bfloat16 weights takes 1.9 s so, and 7.9 s if the
    activations are bfloat16 too (`benchmarks/load_and_speak.py`).
    """
    outputs, rows = len(stored[0]), len(x) if len(x) <= _ROWS_TO_SPLIT else 1
    blocks = outputs * x.shape[-1] * rows // _BLOCK_WEIGHTS
    if blocks < 2:
        return x @ widen(*stored).T
    ends = [outputs * block // blocks for block in range(1, blocks)]
    parts = zip(*(mx.split(each, ends) for each in stored), strict=True)
    return mx.concatenate([x @ widen(*part).T for part in parts], axis=-1)


def on_two_cores(function: Callable[..., mx.array], *arrays: mx.array, axis: int = 0) -> mx.array:
    """function(*arrays), in any type, with each core taking half of every array's first axis.

    The halves of the result are concatenated along `axis`.
    """
    if not hasattr(_this_thread, "stream"):
        _this_thread.stream = mx.new_stream(mx.cpu)  # which no other thread may use
    halves = [mx.split(each, [len(each) // 2]) for each in arrays]
    here, there = zip(*halves, strict=True)
    first = function(*here)
    with mx.stream(_this_thread.stream):
        second = function(*there)
    return mx.concatenate([first, second], axis=axis)


_this_thread = threading.local()


_EXPONENTIAL = tuple(1 / math.factorial(power) for power in range(8))


@fused
def swiglu(gate: mx.array, up: mx.array) -> mx.array:
    """exp(-gate) as the Taylor series of its 16th root, squared four times: 4.6 times as fast.

    Each squaring doubles the relative error so far. Below -1.3, exp(-gate) is nothing beside 1.
    """
    root = mx.clip(gate * (-1 / 16), -1.3, 5.2)
    *lower, power = _EXPONENTIAL
    for coefficient in reversed(lower):
        power = power * root + coefficient
    for _ in range(4):
        power = power * power
    return gate * up / (1 + power)


# erf(x) / x as a quotient of polynomials in x^2 on |x| <= 3.9, fitted to an error of 1.5e-8 in erf.
_ERF_ABOVE = (
    *(1.1283790323557905, 0.19194144559102413, 0.052966979342437055),
    *(0.003836896193553393, 0.00028745793239622985, 2.0503865734848406e-06),
)
_ERF_BELOW = (
    *(1.0, 0.5034354551453925, 0.11475838504730779),
    *(0.01510924367489393, 0.0011817397670897567, 3.823077068720961e-05),
)


@fused
def gelu(x: mx.array) -> mx.array:
    """Error 2e-7 of the larger of x and 1, which is exact GELU's: 4 times as fast."""
    y, half = mx.clip(x * math.sqrt(0.5), -3.9, 3.9), 0.5 * x
    square = y * y
    above, below = _ERF_ABOVE[-1], _ERF_BELOW[-1]
    for up, down in zip(_ERF_ABOVE[-2::-1], _ERF_BELOW[-2::-1], strict=True):
        above, below = above * square + up, below * square + down
    return half + half * (y * above / below)


def snake(x: mx.array, bias: mx.array, frequency: mx.array, amplitude: mx.array) -> mx.array:
    """Polynomial of the angle within half a period: 6.5 times as fast.

    frequency: alpha / pi, the periods of the squared sine per unit of x.
    """
    return _in_new_memory(_snake(x, bias, frequency, amplitude), x)


# sin(pi f)^2 / f^2 in powers of f^2 on 0 <= |f| <= 1 / 2, fitted at Chebyshev nodes: error 3e-8.
_SINE_SQUARED = (
    (9.869604311707747, -32.46967117171981),
    (42.72719633650807, -30.10146584120783),
    (13.050098919785349, -3.3565926209364774),
)
# Added and subtracted again, 1.5 * 2**23 rounds to a whole number; mx.round is a call per number.
_ROUNDING = 12582912.0


@fused
def _snake(x: mx.array, bias: mx.array, frequency: mx.array, amplitude: mx.array) -> mx.array:
    """Three terms side by side, since Horner's chain would be too deep for one kernel."""
    y = x + bias
    periods = frequency * y
    # Rounding is a step function, whose slope is zero; without stop_gradient it would be one.
    rest = periods - mx.stop_gradient((periods + _ROUNDING) - _ROUNDING)
    square = rest * rest
    fourth, scaled = square * square, amplitude * square
    one, two, three = (low + high * square for low, high in _SINE_SQUARED)
    return (y + scaled * one) + (scaled * fourth * two + scaled * (fourth * fourth) * three)


def weighted_sum(weights: list[mx.array], terms: list[mx.array]) -> mx.array:
    """Four terms at a time, so that each kernel is vector code: 1.6 times as fast for 7."""
    total = kernels_gpu.weighted_sum(weights[:4], terms[:4])
    for start in range(4, len(terms), 4):
        before = _in_new_memory(total, *terms)  # a kernel of its own
        part = slice(start, start + 4)
        total = kernels_gpu.weighted_sum(weights[part], terms[part], before)
        total = _in_new_memory(total, before)
    return total


def _in_new_memory(result: mx.array, *inputs: mx.array) -> mx.array:
    """The result of a fused kernel, not written over its inputs, which outlive it for that."""
    return mx.depends([result], inputs)[0]
