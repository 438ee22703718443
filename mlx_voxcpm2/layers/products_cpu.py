"""Matrix products on MLX's CPU backend: in blocks, from quantised weights, on two cores.

Gains: see `kernels_cpu`.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from functools import partial

import mlx.core as mx
import mlx.nn as nn

from . import device, kernels_gpu

# OpenBLAS multiplies up to so many pairs of numbers, for up to so many outputs, without copying the
# matrix first. One block's float32 weights, 4 MB, fit the cache and memory that was just in use.
_BLOCK_PRODUCTS, _BLOCK_OUTPUTS = 10**6, 1200
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
    elif splits_products(len(x), x.dtype):
        y = few_rows_product(x, layer.weight)
    else:
        return kernels_gpu.linear(layer, x)
    return y + layer.bias if "bias" in layer else y


def splits_products(rows: int, dtype: mx.Dtype) -> bool:
    """Whether products of so many rows are computed in blocks: OpenBLAS would copy the matrix."""
    return rows <= _ROWS_TO_SPLIT and dtype == mx.float32 and device.uses_openblas()


def few_rows_product(x: mx.array, weight: mx.array) -> mx.array:
    """x @ weight.T for x (N, in) and a weight (out, in) of its type, where `splits_products`."""
    return _product_in_blocks(x, None, weight)


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


def _product_in_blocks(
    x: mx.array, widen: Callable[..., mx.array] | None, *stored: mx.array
) -> mx.array:
    """x (N, in) times the transpose of `widen(*stored)`, some rows of the matrix at a time.

    Without `widen`, of the one array that is stored. A large matrix widened at once would be new
    memory, which takes ten times as long as the product. At the released size a patch from bfloat16
    weights takes 1.9 s so, and 7.9 s if the activations are bfloat16 too
    (`benchmarks/load_and_speak.py`).
    """
    outputs, rows = len(stored[0]), len(x) if len(x) <= _ROWS_TO_SPLIT else 1
    fewest = outputs * rows * x.shape[-1] / _BLOCK_PRODUCTS, outputs * rows / _BLOCK_OUTPUTS
    blocks = math.ceil(max(fewest))
    ends = [outputs * block // blocks for block in range(1, blocks)]
    parts = zip(*(mx.split(each, ends) for each in stored), strict=True)
    products = [x]
    for part in parts:
        block = part[0] if widen is None else widen(*_after(products[-1], part))
        products.append(x @ block.T)
    return mx.concatenate(products[1:], axis=-1) if blocks > 1 else products[1]


def _after(previous: mx.array, arrays: Sequence[mx.array]) -> list[mx.array]:
    """The arrays, not to be used before `previous` is computed.

    MLX walks through a graph in breadth: since weights wait for nothing, it would widen those of
    many blocks and layers at once, and keep them. A 4-bit model took twice its size. One block
    after another is also 1.4 to 1.9 times as fast.
    """
    return mx.depends(list(arrays), [previous])


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
