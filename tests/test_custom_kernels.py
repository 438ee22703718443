"""Custom kernels compute what the plain graph does: their sources run on a CPU, thread by thread."""

import shutil
import sys
from dataclasses import replace
from itertools import product

import mlx.core as mx
import numpy as np
import pytest
from kernel_stand_in import StandIn

from mlx_voxcpm2.layers.custom import add_norm, few_rows, kernel, rope_attention, snake_conv

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or shutil.which("g++") is None,
    reason="the kernels' sources are compiled with g++ on Linux",
)

B16, F16, F32 = mx.bfloat16, mx.float16, mx.float32
ROUNDING = {B16: 2**-8, F16: 2**-11, F32: 2**-22}

# batch, tokens, first, outputs, heads, kv_heads, size, scale, rotates, dtype
ATTENTION = [
    rope_attention.RopeAttention(*settings)
    for settings in (
        (3, 11, 0, 11, 4, 2, 128, 0.09, True, B16),
        (2, 11, 7, 4, 4, 1, 64, 0.3, True, F16),
        (5, 5, 0, 1, 2, 2, 64, 0.5, False, F32),
        (1, 32, 3, 17, 1, 1, 64, 0.1, True, F32),
    )
]
# rows, inputs, outputs, dtype, eps, gated, scale
PRODUCTS = [
    few_rows.FewRows(*settings)
    for settings in (
        (22, 96, 64, B16, 1e-5, False, None),
        (22, 160, 32, F16, 0.1, True, None),
        (8, 64, 32, B16, None, False, 1.0),
        (17, 32, 64, F16, None, False, 0.3),
        (32, 288, 32, B16, None, True, None),
        (1, 64, 8, F16, 1e-5, False, None),
        (31, 64, 24, B16, None, False, None),
    )
]
# rows, hidden, scale, eps, dtype
SUMS = [
    add_norm.AddNorm(*settings)
    for settings in (
        (5, 96, 1.0, 1e-5, B16),
        (1, 1030, 0.26, 0.1, F16),
        (3, 31, 0.5, 1e-5, F32),
    )
]
# batch, length, channels, width, dilation
SNAKES = [
    snake_conv.SnakeConv(*settings)
    for settings in (
        (2, 40, 70, 7, 1),
        (1, 37, 8, 7, 3),
        (3, 9, 65, 7, 9),
        (1, 1, 3, 7, 9),
        (2, 130, 5, 7, 3),
    )
]
OPERATIONS = [*ATTENTION, *PRODUCTS, *SUMS, *SNAKES]
CASES = [(operation, choice) for operation in OPERATIONS for choice in operation.variants]
# Chunks of streams, rows at other positions, and rows of a batch that is not a power of two.
CHUNKS = (1, 6, 13, 31)


def inputs(operation, seed: int = 0) -> list[mx.array]:
    mx.random.seed(seed)
    return operation.example()


@pytest.fixture(scope="session")
def compiled(tmp_path_factory) -> StandIn:
    """Every kernel that the tests run, compiled once."""
    stand_in = StandIn(tmp_path_factory.mktemp("kernels"))
    with pytest.MonkeyPatch.context() as patch, stand_in.noting():
        for _ in each_backend(stand_in, patch):
            for operation, choice in CASES:
                operation.custom(choice, *inputs(operation))
            for dilation, length in product((1, 3, 9), CHUNKS):
                chunk = snake_conv.SnakeConv(1, length, 5, 7, dilation)
                chunk.custom(chunk.variants[0], *inputs(chunk))
    return stand_in


def each_backend(stand_in: StandIn, patch, names=("metal", "cuda")):
    patch.setattr(mx.fast, "metal_kernel", stand_in.metal_kernel)
    patch.setattr(mx.fast, "cuda_kernel", stand_in.cuda_kernel)
    for name in names:
        kernel._build.cache_clear()
        patch.setattr(mx.metal, "is_available", lambda name=name: name == "metal")
        yield name
    kernel._build.cache_clear()


@pytest.fixture(params=["metal", "cuda"])
def backend(request, compiled, monkeypatch):
    """Each backend's kernels in turn, run by the stand-in."""
    yield from each_backend(compiled, monkeypatch, [request.param])


def numbers(array: mx.array) -> np.ndarray:
    return np.array(array.astype(mx.float32), np.float64)


def exact(operation, arrays: list[mx.array]) -> list[np.ndarray]:
    """The plain graph's result in float32."""
    wide = [a.astype(F32) if mx.issubdtype(a.dtype, mx.floating) else a for a in arrays]
    if hasattr(operation, "dtype"):
        operation = replace(operation, dtype=F32)
    return [numbers(each) for each in operation.plain(*wide)]


def describe(case) -> str:
    operation, choice = case
    return "-".join([repr(operation), *(str(value) for _, value in choice)])


@pytest.mark.parametrize("case", CASES, ids=describe)
def test_a_custom_kernel_gives_the_plain_graph_s_result(backend, case):
    operation, choice = case
    arrays = inputs(operation)
    ours = operation.custom(choice, *arrays)
    plain, wanted = operation.plain(*arrays), exact(operation, arrays)
    for mine, theirs, truth in zip(ours, plain, wanted, strict=True):
        assert mine.shape == theirs.shape and mine.dtype == theirs.dtype
        scale = np.abs(truth).max()
        error = np.abs(numbers(mine) - truth)
        assert np.isfinite(error).all()
        assert error.max() <= 2.5 * ROUNDING[mine.dtype] * scale
        if mine.dtype != F32:  # as exact as MLX's own in the mean, to which 32 bits are exact
            others = np.sqrt(np.mean((numbers(theirs) - truth) ** 2))
            assert np.sqrt(np.mean(error**2)) <= 1.3 * others


@pytest.mark.parametrize("dtype", [F32, B16])
def test_rows_of_attention_have_positions_of_their_own(backend, dtype):
    """Padding has negative positions, which count as 0."""
    operation = next(each for each in ATTENTION if each.dtype == dtype and each.rotates)
    qkv, cosines, sines, _ = inputs(operation)
    rows, half = operation.batch, operation.size // 2
    angles = np.outer(np.arange(60), 10.0 ** -np.linspace(0, 4, half)).astype(np.float32)
    starts = np.array([-3, 20, 7, 1, 0][:rows], np.int32)
    table = mx.array(np.cos(angles)), mx.array(np.sin(angles))
    [ours] = operation.custom(operation.variants[0], qkv, *table, mx.array(starts))
    wanted = attention(operation, numbers(qkv), angles, starts)
    assert np.abs(numbers(ours) - wanted).max() <= 4 * ROUNDING[dtype] * np.abs(wanted).max()


def attention(operation, qkv, angles, starts) -> np.ndarray:
    """RoPE and attention in float64, token by token."""
    rows, size = len(starts), operation.size
    heads, kv_heads = operation.heads, operation.kv_heads
    qkv = qkv.reshape(rows, operation.tokens, heads + 2 * kv_heads, size)
    rotated = qkv.copy()
    for row, token in product(range(rows), range(operation.tokens)):
        angle = angles[max(starts[row] + token, 0)].astype(np.float64)
        turn = np.exp(1j * angle)
        whole = (qkv[row, token, :, : size // 2] + 1j * qkv[row, token, :, size // 2 :]) * turn
        rotated[row, token] = np.concatenate([whole.real, whole.imag], axis=-1)
    found = []
    for row in range(rows):
        for token in range(operation.first, operation.first + operation.outputs):
            for head in range(heads):
                key_head = heads + head // (heads // kv_heads)
                scores = rotated[row, :, key_head] @ rotated[row, token, head] * operation.scale
                weights = np.exp(scores - scores.max())
                found.append(weights @ qkv[row, :, key_head + kv_heads] / weights.sum())
    return np.array(found).reshape(-1, heads * size)


@pytest.mark.parametrize("dilation", [1, 3, 9])
def test_a_stream_in_chunks_is_the_whole(backend, dilation):
    whole = snake_conv.SnakeConv(1, sum(CHUNKS), 5, 7, dilation)
    x, state, *settings = inputs(whole)
    wanted, last = whole.plain(x, state, *settings)
    found, begin = [], 0
    for length in CHUNKS:
        chunk = replace(whole, length=length)
        part = x[:, begin : begin + length]
        y, state = chunk.custom(chunk.variants[0], part, state, *settings)
        found.append(y)
        begin += length
    assert np.abs(numbers(mx.concatenate(found, axis=1)) - numbers(wanted)).max() < 2e-6
    assert np.abs(numbers(state) - numbers(last)).max() < 1e-6
