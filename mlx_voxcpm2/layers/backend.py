"""What differs between MLX's backends, each with its reason.

Every variant computes the same; the tests hold them to it.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from .blas import FAST_BLAS  # isort: skip  before MLX

import mlx.core as mx  # isort: skip
import mlx.nn as nn  # isort: skip


def on_cpu() -> bool:
    return mx.default_device() == mx.Device(mx.cpu)


def has_slow_blas() -> bool:
    """Whether MLX's own reference BLAS multiplies matrices here."""
    return sys.platform == "linux" and not FAST_BLAS and on_cpu()


def slowness_hints(dtype: mx.Dtype) -> list[str]:
    """What would make a model that computes in this type fast on this machine."""
    hints = []
    if has_slow_blas():
        hints.append(
            "MLX multiplies matrices with its slow BLAS here: install a fast one (apt install "
            "libopenblas0-pthread, or pip install mkl) and import mlx_voxcpm2 before mlx, or start "
            "with LD_PRELOAD=libopenblas.so.0"
        )
    if on_cpu() and dtype != mx.float32:
        hints.append("a CPU is slow at 16 bits: leave out --dtype (dtype=), to compute in float32")
    return hints


def arrange(weight: mx.array) -> mx.array:
    """A matrix (out, in), laid out in memory as `x @ weight.T` reads it fastest.

    The reference BLAS walks columns: it is twice as fast where they are stored one after another.
    """
    return mx.contiguous(weight.T).T if has_slow_blas() else mx.contiguous(weight)


def project(layer: nn.Module, x: mx.array) -> mx.array:
    """layer(x), x (rows, in) -> (rows, out) of x's type."""
    if type(layer) is nn.Linear and "bias" not in layer:
        return _product(x, layer.weight)
    if type(layer) is nn.QuantizedLinear and "bias" not in layer:
        return _quantized_product(x, layer)
    return layer(x)


def _product(x: mx.array, weight: mx.array) -> mx.array:
    """On a CPU the weights may be of 16 bits where x is of 32."""
    if weight.dtype == x.dtype:
        return x @ weight.T
    return _product_in_blocks(x, lambda part: part.astype(x.dtype), weight)


def _quantized_product(x: mx.array, layer: nn.QuantizedLinear) -> mx.array:
    """On a CPU MLX takes the weights apart for each row: for many, BLAS is ten times as fast."""
    names = ("weight", "scales", "biases")
    stored = [layer[name] for name in names if layer.get(name) is not None]
    form = {"group_size": layer.group_size, "bits": layer.bits, "mode": layer.mode}
    multiply = partial(mx.quantized_matmul, x, **form)
    if on_cpu() and x.dtype == mx.float32 and len(x) > 2:
        if layer.mode == "affine":  # the scales of other modes are no floats
            stored[1:] = [each.astype(x.dtype) for each in stored[1:]]
        return _product_in_blocks(x, partial(mx.dequantize, **form), *stored)
    if on_cpu() and len(x) <= 2 and len(layer.weight) * x.shape[-1] > 2**18:
        return on_two_cores(multiply, *stored, axis=-1)  # of less, they would wait for each other
    return multiply(*stored)


def _product_in_blocks(x: mx.array, widen: Callable[..., mx.array], *stored: mx.array) -> mx.array:
    """x times the matrix that `widen` makes of what is stored of each output, some at a time.

    What a block is widened to fits into memory that was just in use. Of a large matrix it would be
    new memory, which takes ten times as long as the product.
    """
    outputs, blocks = len(stored[0]), len(stored[0]) * x.shape[-1] // 2**19
    if blocks < 2:
        return x @ widen(*stored).T
    ends = [outputs * block // blocks for block in range(1, blocks)]
    parts = zip(*(mx.split(each, ends) for each in stored), strict=True)
    return mx.concatenate([x @ widen(*part).T for part in parts], axis=-1)


def multiplies_on_one_core(dtype: mx.Dtype) -> bool:
    """Whether matrix products of this type leave all cores but one idle."""
    return has_slow_blas() or (on_cpu() and dtype != mx.float32)


def on_two_cores(function: Callable[..., mx.array], *arrays: mx.array, axis: int = 0) -> mx.array:
    """function(*arrays): each core takes half of every array's first axis, and the halves of the
    result are joined along `axis`."""
    if not hasattr(_this_thread, "stream"):
        _this_thread.stream = mx.new_stream(mx.cpu)  # which no other thread may use
    halves = [mx.split(each, [len(each) // 2]) for each in arrays]
    ours, others = zip(*halves, strict=True)
    first = function(*ours)
    with mx.stream(_this_thread.stream):
        second = function(*others)
    return mx.concatenate([first, second], axis=axis)


_this_thread = threading.local()


def has_fast_rope(dtype: mx.Dtype) -> bool:
    """Whether to turn by `mx.fast.rope` rather than by a table.

    One kernel on a GPU. A CPU falls back to primitives, slower than the table; and in float32 the
    table has upstream's angles to the last digit.
    """
    return dtype != mx.float32 and not on_cpu()


def joins_gate_and_up() -> bool:
    """Whether the MLP's two projections of one input are one product.

    A GPU saves a kernel. A CPU reads the halves of a row number by number, whole rows in vectors.
    """
    return not on_cpu()


def stacks_query_heads(length: int, heads: int) -> bool:
    """Whether the query heads of one key head are put behind each other, as one of more queries.

    A CPU has fewer products to compute then. Metal's fused attention takes one to eight queries a
    head only if those of a key head are 32 at most; more than eight it takes anyway. Else the local
    encoder would compute in four kernels.
    """
    return on_cpu() or (length <= 8 and length * heads > 32)


def rms_norm(x: mx.array, weight: mx.array, eps: float) -> mx.array:
    """x (..., H) over its root mean square, times the weight (arXiv 1910.07467).

    One kernel on a GPU. On a CPU `mx.fast.rms_norm` becomes a dozen nodes, and this three.
    """
    if x.dtype == mx.float32 and on_cpu():
        squares = mx.sum(mx.square(x), axis=-1, keepdims=True)
        return _normalise(x, squares, weight, 1 / x.shape[-1], eps)
    return mx.fast.rms_norm(x, weight, eps)


@partial(mx.compile, shapeless=True)
def _normalise(
    x: mx.array, squares: mx.array, weight: mx.array, share: float, eps: float
) -> mx.array:
    return x * mx.rsqrt(squares * share + eps) * weight


class SnakeFactors(NamedTuple):
    """What `snake` multiplies by: of the weight alone, so computed once."""

    radians: mx.array
    turns: mx.array
    height: mx.array

    @classmethod
    def of(cls, alpha: mx.array) -> SnakeFactors:
        return cls(alpha, alpha * (1 / math.pi), mx.reciprocal(alpha + 1e-9))


def snake(x: mx.array, bias: mx.array, factors: SnakeFactors) -> mx.array:
    """y + sin(alpha y)^2 / alpha with y = x + bias, elementwise.

    Ziyin et al. 2020, arXiv 2006.08195.
    """
    if on_cpu():
        return _apart(_snake_polynomial(x, bias, factors.turns, factors.height), x)
    return _snake(x, bias, factors.radians, factors.height)


@partial(mx.compile, shapeless=True)
def _snake(x: mx.array, bias: mx.array, radians: mx.array, height: mx.array) -> mx.array:
    y = x + bias
    wave = mx.sin(radians * y)
    return y + height * (wave * wave)


# sin(pi f)^2 / f^2 in powers of f^2 on 0 <= |f| <= 1 / 2, fitted at Chebyshev nodes: error 3e-8.
_SINE_SQUARED = (
    (9.869604311707747, -32.46967117171981),
    (42.72719633650807, -30.10146584120783),
    (13.050098919785349, -3.3565926209364774),
)
# Added and taken away again, 1.5 * 2**23 rounds to a whole number; mx.round is a call per number.
_ROUNDING = 12582912.0


@partial(mx.compile, shapeless=True)
def _snake_polynomial(x: mx.array, bias: mx.array, turns: mx.array, height: mx.array) -> mx.array:
    """On a CPU MLX calls the C library's sine number by number; this becomes vector code.

    The square has the period pi, which leaves half of the sine's range. Three terms side by side,
    not Horner's chain: what is at most eleven operations deep is one kernel, and not three.
    """
    y = x + bias
    angle = turns * y
    # Whole turns are steps, whose slope is zero; without saying so, it would be one.
    rest = angle - mx.stop_gradient((angle + _ROUNDING) - _ROUNDING)
    square = rest * rest
    fourth, scaled = square * square, height * square
    one, two, three = (low + high * square for low, high in _SINE_SQUARED)
    return (y + scaled * one) + (scaled * fourth * two + scaled * (fourth * fourth) * three)


def weighted_sum(weights: list[mx.array], terms: list[mx.array]) -> mx.array:
    """The sum of each weight times its term, elementwise."""
    if not on_cpu():
        return _weighted_sum(weights, terms)
    # Of more than ten arrays the compiler makes no vector code.
    total = _weighted_sum(weights[:4], terms[:4])
    for start in range(4, len(terms), 4):
        before = _apart(total, *terms)  # a kernel of its own
        total = _weighted_sum(weights[start : start + 4], terms[start : start + 4], before)
        total = _apart(total, before)
    return total


@partial(mx.compile, shapeless=True)
def _weighted_sum(weights: list[mx.array], terms: list[mx.array], *others: mx.array) -> mx.array:
    """In pairs of pairs: a fused kernel is at most eleven operations deep."""
    terms = [*others, *(weight * term for weight, term in zip(weights, terms, strict=True))]
    while len(terms) > 1:
        odd = terms[len(terms) // 2 * 2 :]
        terms = [a + b for a, b in zip(terms[::2], terms[1::2], strict=False)] + odd
    return terms[0]


def swiglu(gate: mx.array, up: mx.array) -> mx.array:
    """silu(gate) * up, elementwise."""
    if gate.dtype == mx.float32 and on_cpu():
        return _swiglu_polynomial(gate, up)
    return _swiglu(gate, up)


@partial(mx.compile, shapeless=True)
def _swiglu(gate: mx.array, up: mx.array) -> mx.array:
    return nn.silu(gate) * up


_EXPONENTIAL = tuple(1 / math.factorial(power) for power in range(7))


@partial(mx.compile, shapeless=True)
def _swiglu_polynomial(gate: mx.array, up: mx.array) -> mx.array:
    """As for the sine: exp(-gate) from the series of its 64th root, squared six times."""
    root = mx.clip(gate * (-1 / 64), -1.3, 1.3)
    power = _horner(_EXPONENTIAL, root)
    for _ in range(6):
        power = power * power
    return gate * up / (1 + power)


def _apart(result: mx.array, *inputs: mx.array) -> mx.array:
    """The result of a fused kernel, not written over its inputs, which must outlive it for that.

    The compiler's vector code is four times as fast, and only runs where these are apart.
    """
    return mx.depends([result], inputs)[0]


def _horner(coefficients: tuple[float, ...], x: mx.array) -> mx.array:
    """The polynomial with these coefficients, the constant first."""
    *lower, total = coefficients
    for coefficient in reversed(lower):
        total = total * x + coefficient
    return total
