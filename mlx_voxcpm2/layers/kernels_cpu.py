"""Kernels for MLX's CPU backend, in float32 unless said otherwise.

MLX compiles elementwise operations into vector code, but calls the C library's sine and exponential
number by number. A fused kernel is vector code if it is at most eleven operations deep, reads at
most ten arrays and does not write over one of them.

Gains are against the functions of `kernels_gpu`, on two cores of a Zen 4 server with MLX 0.32 and
OpenBLAS: ratios of medians of calls in turn, by `benchmarks/kernels.py` unless said otherwise.
"""

from __future__ import annotations

import math

import mlx.core as mx

from . import kernels_gpu
from .compiled import fused
from .kernels_cpu_rows import attention, layer_norm, rms_norm

__all__ = [
    "attention",
    "depthwise",
    "gelu",
    "layer_norm",
    "rms_norm",
    "snake",
    "swiglu",
    "weighted_sum",
]

# Outputs of a depthwise convolution from which shifted multiply-adds are faster.
_MANY_OUTPUTS = 2**15


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


def depthwise(x: mx.array, weight: mx.array, dilation: int) -> mx.array:
    """Three nodes where `weighted_sum` has fifty: 5 times as fast for one output, 2.4 for 200.

    From 2^15 outputs on, by memory for every tap of each, as fast or slower.
    """
    kernel, channels = weight.shape
    rows, length = x.shape[0], x.shape[1] - (kernel - 1) * dilation
    if rows * length * channels > _MANY_OUTPUTS:
        return kernels_gpu.depthwise(x, weight, dilation, weighted_sum)
    shape, strides = (rows, length, kernel, channels), (x.shape[1], 1, dilation)
    windows = mx.as_strided(x, shape, (*(channels * each for each in strides), 1))
    return mx.sum(windows * weight, axis=2)


def _in_new_memory(result: mx.array, *inputs: mx.array) -> mx.array:
    """The result of a fused kernel, not written over its inputs, which outlive it for that."""
    return mx.depends([result], inputs)[0]
