"""Custom kernels compute what the plain graph does: their sources run on a CPU, as C++."""

import shutil
import sys
from contextlib import contextmanager
from dataclasses import replace
from itertools import product

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from conftest import relative_error
from kernel_stand_in import StandIn
from mlx.utils import tree_map

from mlx_voxcpm2.layers import device
from mlx_voxcpm2.layers.config import TransformerConfig
from mlx_voxcpm2.layers.conv import ConvState
from mlx_voxcpm2.layers.custom import add_norm, few_rows, kernel, rope_attention, snake_conv
from mlx_voxcpm2.layers.custom.kernel import CHOICES, Examples
from mlx_voxcpm2.layers.transformer import Transformer
from mlx_voxcpm2.models.voxcpm2.audio_vae_blocks import DeferredBias, ResidualUnit
from mlx_voxcpm2.trials import trial
from mlx_voxcpm2.trials.trial import Trial, is_as_exact, reference

B16, F16, F32 = mx.bfloat16, mx.float16, mx.float32
ROUNDING = {B16: 2**-8, F16: 2**-11, F32: 2**-22}

# batch, tokens, first, outputs, heads, kv_heads, size, scale, rotates, dtype
ATTENTION = [
    rope_attention.RopeAttention(*settings)
    for settings in (
        (3, 11, 0, 11, 4, 2, 128, 0.09, True, B16),
        (2, 11, 7, 4, 4, 1, 64, 0.3, True, F16),
        (8, 11, 7, 4, 4, 1, 64, 0.3, True, F16),  # Metal has the starts in another address space
        (5, 5, 0, 1, 2, 2, 64, 0.5, False, F32),
        (1, 32, 3, 17, 1, 1, 64, 0.1, True, F32),
        (2, 1, 0, 1, 2, 1, 64, 0.3, True, F32),  # a table of one row
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


CONFIG = TransformerConfig(
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    max_position_embeddings=16,
    rms_norm_eps=1e-5,
    head_dim=64,
    residual_scale=0.5,
)


def stack_output(is_quantised: bool = False, training: bool = False) -> mx.array:
    """The last 4 of 11 tokens by a stack, as the local DiT computes them."""
    stack, random = Transformer(CONFIG, 11), Examples()

    def draw(value: mx.array) -> mx.array:
        return random.normal(*value.shape, dtype=B16, scale=0.2)

    random.keys = iter(mx.random.split(mx.random.key(1), 32))
    stack.update(tree_map(draw, stack.parameters()))
    if is_quantised:
        nn.quantize(stack, group_size=32, bits=8)
    stack.train(training)
    stack.fuse(mx.eval)
    x = random.normal(2, 11, 64, dtype=B16)
    return stack(x, causal=False, output_positions=slice(7, None))


def unit_output() -> mx.array:
    """A stream by a unit of the AudioVAE, its first chunk shorter than the context."""
    random, states = Examples(), [ConvState()]
    unit = ResidualUnit(8, 3, depthwise=True).eval()
    unit.update(tree_map(lambda value: random.normal(*value.shape, scale=0.5), unit.parameters()))
    chunks = mx.split(random.normal(2, 26, 8), [5], axis=1)
    outputs = [unit(DeferredBias(each, mx.ones(8)), iter(states)).added() for each in chunks]
    return mx.concatenate([*outputs, states[0].inputs], axis=1)


@contextmanager
def all_won(patch):
    """As on a GPU where every kernel has won its trial; yields the operations asked for."""
    patch.setattr(device, "on_cpu", lambda: False)
    patch.setattr(CHOICES, "noted", set())

    def variant(operation):
        CHOICES.noted.add(operation)
        return operation.variants[0]

    patch.setattr(CHOICES, "variant", variant)
    yield CHOICES.noted


@pytest.fixture(scope="session")
def compiled(tmp_path_factory) -> StandIn:
    """Every kernel that the tests run, compiled once."""
    if not sys.platform.startswith("linux") or shutil.which("g++") is None:
        pytest.skip("the kernels' sources are compiled with g++ on Linux")
    stand_in = StandIn(tmp_path_factory.mktemp("kernels"))
    with pytest.MonkeyPatch.context() as patch, stand_in.noting():
        for _ in each_backend(stand_in, patch):
            for operation, choice in CASES:
                operation.custom(choice, *operation.example())
            for dilation, length in product((1, 3, 9), CHUNKS):
                chunk = snake_conv.SnakeConv(1, length, 5, 7, dilation)
                chunk.custom(chunk.variants[0], *chunk.example())
            with all_won(patch):
                stack_output(), stack_output(is_quantised=True), unit_output()
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


def describe(case) -> str:
    operation, choice = case
    return "-".join([repr(operation), *(str(value) for _, value in choice)])


@pytest.mark.parametrize("case", CASES, ids=describe)
def test_a_custom_kernel_gives_the_plain_graph_s_result(backend, case):
    operation, choice = case
    arrays = operation.example()
    ours = operation.custom(choice, *arrays)
    plain, wanted = operation.plain(*arrays), reference(operation, arrays)
    for mine, theirs, truth in zip(ours, plain, wanted, strict=True):
        assert mine.shape == theirs.shape and mine.dtype == theirs.dtype
        assert is_as_exact(mine, theirs, truth)  # by which a trial judges
        truth = numbers(truth)
        scale, error = np.abs(truth).max(), np.abs(numbers(mine) - truth)
        assert np.isfinite(error).all()
        assert error.max() <= 2.5 * ROUNDING[mine.dtype] * scale
        if mine.dtype != F32:  # as exact as MLX's own in the mean, to which 32 bits are exact
            others = np.sqrt(np.mean((numbers(theirs) - truth) ** 2))
            assert np.sqrt(np.mean(error**2)) <= 1.3 * others


@pytest.mark.parametrize("dtype", [F32, B16])
def test_rows_of_attention_have_positions_of_their_own(backend, dtype):
    """Padding has negative positions, which count as 0."""
    operation = next(each for each in ATTENTION if each.dtype == dtype and each.rotates)
    qkv = operation.example()[0]
    rows, half = operation.batch, operation.size // 2
    angles = np.outer(np.arange(60), 10.0 ** -np.linspace(0, 4, half)).astype(np.float32)
    starts = np.array([-3, 20, 7, 1, 0][:rows], np.int32)
    table = mx.array(np.cos(angles)), mx.array(np.sin(angles))
    [ours] = operation.custom(operation.variants[0], qkv, *table, mx.array(starts))
    wanted = attention(operation, numbers(qkv), angles, starts)
    assert np.abs(numbers(ours) - wanted).max() <= 4 * ROUNDING[dtype] * np.abs(wanted).max()


def test_large_scores_do_not_overflow(backend):
    operation = next(each for each in ATTENTION if not each.rotates)
    qkv, *others = operation.example()
    heads = (operation.heads + operation.kv_heads) * operation.size
    qkv = mx.concatenate([mx.full((len(qkv), heads), 40.0), qkv[:, heads:]], axis=1)
    [ours] = operation.custom(operation.variants[0], qkv, *others)
    values = qkv[:, heads:].reshape(operation.batch, operation.tokens, -1)
    assert relative_error(ours, mx.mean(values, axis=1)) < 1e-6


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
    x, state, *settings = whole.example()
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


@pytest.mark.parametrize("operation", [ATTENTION[0], PRODUCTS[0], SUMS[0], SNAKES[0]], ids=repr)
def test_examples_leave_the_user_s_random_numbers_as_they_are(operation):
    mx.random.seed(7)
    wanted = mx.random.normal((3,)).tolist()
    mx.random.seed(7)
    operation.example()
    assert mx.random.normal((3,)).tolist() == wanted


@pytest.mark.parametrize("is_quantised", [False, True])
def test_a_stack_by_custom_kernels_is_the_plain_one(backend, monkeypatch, is_quantised):
    monkeypatch.setattr(device, "on_cpu", lambda: False)
    wanted = stack_output(is_quantised)
    with all_won(monkeypatch) as asked:
        ours = stack_output(is_quantised)
    assert ours.shape == (2, 4, 64)
    # The rounding of sixteen bits, in two layers.
    assert 0 < relative_error(ours.astype(F32), wanted.astype(F32)) < 8e-3
    product = "add_norm" if is_quantised else "few_rows"
    assert {each.kernel.name for each in asked} == {"rope_attention", product}
    sizes = [each.outputs for each in asked if isinstance(each, rope_attention.RopeAttention)]
    assert sorted(sizes) == [4, 11]


def test_a_unit_of_the_audio_vae_by_a_custom_kernel_is_the_plain_one(backend, monkeypatch):
    monkeypatch.setattr(device, "on_cpu", lambda: False)
    wanted = unit_output()
    with all_won(monkeypatch) as asked:
        ours = unit_output()
    assert len(asked) == 2 and relative_error(ours, wanted) < 1e-6


def test_modules_in_training_take_the_plain_graph_which_has_gradients(monkeypatch):
    with all_won(monkeypatch) as asked:
        stack_output(training=True)
        stack_output(is_quantised=True, training=True)
    assert asked == set()


def test_a_table_of_one_row_needs_no_rotation(monkeypatch):
    """Position 0 has none, and the table no second row to read the frequencies from."""
    operation = next(each for each in ATTENTION if each.tokens == 1)
    arrays = operation.example()
    monkeypatch.setattr(rope_attention.kernels, "rope", None)
    [found] = operation.plain(*arrays)
    values = arrays[0][:, -operation.size :]
    assert found.tolist() == mx.concatenate([values] * operation.heads, axis=1).tolist()


def test_heads_that_do_not_divide_take_the_plain_graph(monkeypatch):
    with all_won(monkeypatch):
        settings = 0.1, slice(0, 5), None
        assert rope_attention.rope_attention(mx.zeros((5, 7 * 64)), 1, 3, 2, *settings) is None
        assert rope_attention.rope_attention(mx.zeros((5, 4 * 64 + 1)), 1, 2, 1, *settings) is None


@pytest.mark.parametrize("has_masks", [False, True])
def test_attention_over_earlier_positions_takes_the_plain_graph(monkeypatch, has_masks):
    """The kernel has no mask and no cache."""
    stack = Transformer(CONFIG, 11)
    stack.set_dtype(B16)
    stack.eval()
    with all_won(monkeypatch) as asked:
        monkeypatch.setattr(few_rows, "LEAST_ROWS", 99)
        stack(mx.zeros((1, 5, 64), dtype=B16), None if has_masks else stack.make_cache())
    assert asked == set()


@pytest.mark.parametrize("operation", [ATTENTION[2], PRODUCTS[5], SUMS[0], SNAKES[3]], ids=repr)
def test_a_trial_finds_the_kernels_right(backend, monkeypatch, operation):
    """With the stand-in in place of a GPU, whose times mean nothing."""
    monkeypatch.setattr(trial, "_CALLS", 2)
    monkeypatch.setattr(trial, "_ROUNDS", 1)
    found = Trial().verdict(operation)
    assert found.fault == "" and found.ratio is not None


@pytest.mark.skipif(device.on_cpu(), reason="there is no GPU here")
@pytest.mark.parametrize("operation", OPERATIONS, ids=repr)
def test_a_gpu_finds_the_kernels_right(operation):
    """Not run on any GPU yet."""
    found = Trial().verdict(operation)
    assert found.fault == "" and found.ratio is not None
