"""Kernels of both backends compute the same functions, each in the form that makes it fast."""

import gc
import io
import math
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from conftest import relative_error

from mlx_voxcpm2.layers import (
    device,
    kernels,
    kernels_cpu,
    kernels_cpu_rows,
    kernels_gpu,
    products_cpu,
)

# Without a C++ compiler MLX fuses nothing on a CPU.
NEEDS_COMPILER = pytest.mark.skipif(
    device.on_cpu() and shutil.which("g++") is None, reason="g++ is not installed"
)


@pytest.fixture(params=[True, False], ids=["CPU", "GPU"])
def backends(request, monkeypatch):
    """Each backend's kernels in turn, wherever the tests run."""
    monkeypatch.setattr(device, "on_cpu", lambda: request.param)


def test_cores_are_shared_where_a_product_has_but_one(monkeypatch):
    def shared(platform: str, cpu: bool, fast_blas: str | None) -> list[bool]:
        monkeypatch.setattr(sys, "platform", platform)
        monkeypatch.setattr(device, "on_cpu", lambda: cpu)
        monkeypatch.setattr(device, "FAST_BLAS", fast_blas)
        return [device.multiplies_on_one_core(dtype) for dtype in (mx.float32, mx.bfloat16)]

    assert shared("linux", True, "OpenBLAS") == [False, True]
    assert shared("linux", True, None) == [True, True]
    assert shared("linux", False, None) == [False, False]
    assert shared("darwin", True, None) == [False, True]  # Accelerate


@pytest.mark.parametrize("outputs", [10, 1030])
@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16, mx.float32])
@pytest.mark.parametrize("bias", [False, True])
def test_weights_of_sixteen_bits_multiply_as_the_same_ones_of_thirty_two(
    backends, outputs, dtype, bias
):
    """Large ones in blocks."""
    random = np.random.RandomState(0)
    layer = nn.Linear(1024, outputs, bias=bias)
    layer.weight = mx.array(random.normal(size=(outputs, 1024))).astype(dtype)
    for rows in (1, 3):
        x = mx.array(random.normal(size=(rows, 1024)).astype(np.float32))
        found, wanted = kernels.linear(layer, x), x @ layer.weight.astype(mx.float32).T
        wanted = wanted + layer.bias if bias else wanted
        assert found.dtype == mx.float32 and found.shape == wanted.shape
        assert relative_error(found, wanted) < 1e-6


@pytest.mark.parametrize(("outputs", "inputs"), [(96, 64), (1033, 1024)])
@pytest.mark.parametrize("stored", [mx.float32, mx.bfloat16])
@pytest.mark.parametrize("form", [("affine", 8, 64), ("affine", 4, 32), ("mxfp4", 4, 32)])
@pytest.mark.parametrize("bias", [False, True])
def test_a_quantised_product_of_many_rows_is_that_of_each(
    backends, form, stored, outputs, inputs, bias
):
    mode, bits, group = form
    random = np.random.RandomState(0)
    layer = nn.Linear(inputs, outputs, bias=bias)
    layer.weight = mx.array(random.normal(size=(outputs, inputs)).astype(np.float32))
    layer = layer.to_quantized(group, bits, mode)
    layer.set_dtype(stored)
    x = mx.array(random.normal(size=(22, inputs)).astype(np.float32))
    separate = mx.concatenate([layer(row) for row in mx.split(x, 22)])
    for rows in (1, 2, 3, 22):
        product = kernels.linear(layer, x[:rows])
        nodes = io.StringIO()
        mx.export_to_dot(nodes, product)
        assert ('label ="Matmul"' in nodes.getvalue()) == (device.on_cpu() and rows > 2)
        assert relative_error(product, separate[:rows]) < 1e-6, rows


@pytest.mark.skipif(not device.on_cpu(), reason="a GPU widens no weights")
@pytest.mark.parametrize("bits", [4, 8])
def test_the_weights_of_few_layers_are_widened_at_a_time(bits):
    """With those of many, a model would take the memory that its few bits were to save."""
    size, count = 1280, 24
    layer = nn.Linear(size, size, bias=False).to_quantized(bits=bits)
    x = mx.random.normal((22, size))
    mx.eval(x, layer)
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    for _ in range(count // 2):
        x = kernels.linear(layer, x) - kernels.linear(layer, -x)
    mx.eval(x)
    assert mx.get_peak_memory() - before < 0.3 * count * layer.weight.shape[0] * size * 4


def test_two_cores_compute_what_one_does_in_any_thread():
    x, streams = mx.arange(12.0).reshape(6, 2), []

    def function(half: mx.array) -> mx.array:
        streams.append(mx.default_stream(mx.default_device()))
        return mx.cumsum(half, axis=-1) + 1

    def compute() -> list:
        return mx.compile(lambda x: products_cpu.on_two_cores(function, x))(x).tolist()

    with ThreadPoolExecutor(1) as other:
        results = [compute(), other.submit(compute).result(), compute()]
    assert results == [function(x).tolist()] * 3
    pairs = list(zip(streams[:-1:2], streams[1:-1:2], strict=True))
    assert all(one != two for one, two in pairs) and pairs[0] == pairs[2]


def snake(x: mx.array, bias: mx.array, alpha: mx.array) -> mx.array:
    return kernels.snake(x, bias, kernels.SnakeConstants.of(alpha))


def test_snake(backends):
    random = np.random.RandomState(0)
    x = random.uniform(-100, 100, (3, 4000, 8)).astype(np.float32)
    alpha, bias = random.uniform(0.01, 20, (2, 8)).astype(np.float32)
    ours = np.array(snake(mx.array(x), mx.array(bias), mx.array(alpha)))
    x = x + bias
    angle = (alpha * x).astype(np.float64)
    exact = x + np.sin(angle) ** 2 / alpha.astype(np.float64)
    error = np.abs(ours - exact) * alpha
    # What the angle and x lose in float32 is not the function's fault.
    assert (error < 1e-6 + 2.5e-7 * (np.abs(angle) + np.abs(x) * alpha)).all()


@pytest.mark.parametrize("shape", [(3, 5, 64), (1, 2048), (9, 1024)])
def test_rms_norm(backends, shape):
    random = np.random.RandomState(0)
    x, weight = random.normal(size=shape), random.normal(size=shape[-1])
    ours = kernels.rms_norm(
        mx.array(x.astype(np.float32)), mx.array(weight.astype(np.float32)), 0.1
    )
    exact = x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + 0.1) * weight
    assert (np.abs(np.array(ours) - exact) < 1e-6 * (1 + np.abs(exact))).all()


def nodes(array: mx.array) -> int:
    text = io.StringIO()
    mx.export_to_dot(text, array)
    return text.getvalue().count("[label =")


@NEEDS_COMPILER
@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("rows", [1, 9])
def test_a_cpu_takes_fewer_nodes_for_a_norm(monkeypatch, rows):
    monkeypatch.setattr(device, "on_cpu", lambda: True)
    x, weight = mx.ones((rows, 1024)), mx.ones(1024)
    plain = nodes(kernels_gpu.rms_norm(x, weight, 0.1))
    assert nodes(kernels.rms_norm(x, weight, 0.1)) < plain


@pytest.mark.parametrize("shape", [(3, 5, 64), (7, 1280), (2, 53)])
def test_layer_norm(backends, shape):
    random = np.random.RandomState(0)
    x, weight, bias = (random.normal(size=s) for s in (shape, shape[-1], shape[-1]))
    ours = kernels.layer_norm(*(mx.array(each, mx.float32) for each in (x, weight, bias)), 0.1)
    deviation = np.sqrt(np.var(x, axis=-1, keepdims=True) + 0.1)
    exact = (x - np.mean(x, axis=-1, keepdims=True)) / deviation * weight + bias
    tolerance = 1e-6 if device.on_cpu() else 5e-6
    assert (np.abs(np.array(ours) - exact) < tolerance * (1 + np.abs(exact))).all()


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16])
def test_sixteen_bits_take_the_same_functions_on_every_device(backends, dtype):
    x = mx.array(np.random.RandomState(0).normal(size=(4, 64))).astype(dtype)
    weight = x[0]
    for ours, wanted in (
        (kernels.swiglu(x, x), kernels_gpu.swiglu(x, x)),
        (kernels.rms_norm(x, weight, 0.1), kernels_gpu.rms_norm(x, weight, 0.1)),
    ):
        assert ours.dtype == dtype and mx.array_equal(ours, wanted)


@pytest.mark.parametrize("count", [1, 4, 5, 7, 11])
def test_weighted_sum(backends, count):
    random = np.random.RandomState(0)
    weights, terms = random.normal(size=(count, 8)), random.normal(size=(count, 2, 5, 8))
    ours = kernels.weighted_sum(
        [mx.array(each.astype(np.float32)) for each in weights],
        [mx.array(each.astype(np.float32)) for each in terms],
    )
    assert np.abs(np.array(ours) - np.einsum("nc,nblc->blc", weights, terms)).max() < 1e-5


@pytest.mark.parametrize("dilation", [1, 3])
@pytest.mark.parametrize("length", [1, 9, 3000])
def test_depthwise(backends, length, dilation):
    """Few outputs as windows, many as shifted multiply-adds."""
    random = np.random.RandomState(0)
    x = random.normal(size=(2, length + 4 * dilation, 8)).astype(np.float32)
    weight = random.normal(size=(5, 8)).astype(np.float32)
    ours = kernels.depthwise(mx.array(x), mx.array(weight), dilation)
    wanted = sum(weight[i] * x[:, i * dilation : i * dilation + length] for i in range(5))
    assert np.abs(np.array(ours) - wanted).max() < 1e-5


@pytest.mark.parametrize("shape", [(1, 1, 1024), (2, 2, 1024), (2, 9, 1024)])
def test_product(backends, shape):
    """Few rows in blocks, if OpenBLAS multiplies."""
    x, weight = (
        mx.array(np.random.RandomState(0).normal(size=size).astype(np.float32) / 32)
        for size in (shape, (1030, 1024))
    )
    assert relative_error(kernels.product(x, weight), x @ weight.T) < 1e-6


def test_both_swiglus_are_the_same_function():
    gate = np.concatenate([np.linspace(-200, 200, 20001), [0, -1e9, 1e9, 88, -88]])
    gate = gate.astype(np.float32)
    exact = gate / (1 + np.exp(-np.clip(gate.astype(np.float64), -700, 700)))
    for variant in (kernels_gpu.swiglu, kernels_cpu.swiglu):
        ours = np.array(variant(mx.array(gate), mx.ones(len(gate))))
        assert np.isfinite(ours).all()
        assert (np.abs(ours - exact) <= 4e-6 * np.abs(exact) + 1e-7).all()


def test_the_cpu_swiglu_is_hardly_less_exact_than_the_library_s():
    gate = np.random.RandomState(0).normal(size=100_000).astype(np.float32) * 3
    exact = gate / (1 + np.exp(-gate.astype(np.float64)))
    arrays = mx.array(gate), mx.ones(len(gate))
    errors = [np.array(f(*arrays)) - exact for f in (kernels_cpu.swiglu, kernels_gpu.swiglu)]
    ours, library = (np.sqrt(np.mean(each**2)) for each in errors)
    assert ours < 2 * library


def test_both_attentions_are_the_same_function(monkeypatch):
    random = np.random.RandomState(0)
    queries, keys, values = (
        mx.array(random.normal(size=(2, 3, length, 8)).astype(np.float32) * 3)
        for length in (11, 17, 17)
    )
    monkeypatch.setattr(kernels_cpu_rows, "_BLOCK_SCORES", 2 * 3 * 17 * 4)
    ours = kernels_cpu.attention(queries, keys, values, 0.7)
    assert mx.abs(ours - kernels_gpu.attention(queries, keys, values, 0.7)).max() < 2e-5


def test_attention_to_many_positions_is_exact_to_the_last_digits():
    """MLX's own sum of a row loses 1e-5 of 1500 thirds."""
    keys = np.zeros((1, 1, 1500, 1))
    keys[:, :, 7] = math.log(3)
    values = 1 + np.random.RandomState(1).uniform(size=(1, 1, 1500, 4))
    weights = np.exp(keys[..., 0] - math.log(3))
    exact = weights @ values / weights.sum(-1, keepdims=True)
    arrays = (mx.array(x, mx.float32) for x in (np.ones((1, 1, 3, 1)), keys, values))
    ours = np.array(kernels_cpu.attention(*arrays, 1.0))
    assert np.abs(ours - exact).max() < 3e-6


def test_the_exponential_of_attention_is_exact_where_weights_are_large():
    x = np.concatenate([np.linspace(-40, 0, 10001), [-1e9]]).astype(np.float32)
    ours = np.array(kernels_cpu_rows._exponential(mx.array(x)))
    assert np.abs(ours - np.exp(x.astype(np.float64))).max() < 4e-7
    assert 0 <= ours.min() < 1e-16


def test_both_gelus_are_the_same_function():
    x = np.concatenate([np.linspace(-9, 9, 20001), [0, -1e9, 1e9, -1e-9]]).astype(np.float32)
    exact = [each * 0.5 * math.erfc(-each * math.sqrt(0.5)) for each in x.tolist()]
    for variant in (kernels_gpu.gelu, kernels_cpu.gelu):
        ours = np.array(variant(mx.array(x)))
        assert (np.abs(ours - exact) <= 3e-7 * np.maximum(1, np.abs(x))).all()


def derivative(function, *inputs: np.ndarray) -> list[np.ndarray]:
    """Derivatives of an elementwise function with respect to each of its inputs."""
    arrays = [mx.array(x.astype(np.float32)) for x in inputs]
    found = mx.grad(lambda *x: function(*x).sum(), argnums=tuple(range(len(arrays))))(*arrays)
    return [np.array(x, np.float64) for x in found]


def test_both_swiglus_have_its_derivative():
    gate = np.concatenate([np.linspace(-200, 200, 20001), [0, -1e9, 1e9, 88, -88]])
    up = np.random.RandomState(0).uniform(-3, 3, len(gate))
    sigmoid = 1 / (1 + np.exp(-np.clip(gate, -700, 700)))
    by_gate, by_up = up * sigmoid * (1 + gate * (1 - sigmoid)), gate * sigmoid
    for variant in (kernels_gpu.swiglu, kernels_cpu.swiglu):
        ours = derivative(variant, gate, up)
        for made, exact in zip(ours, (by_gate, by_up), strict=True):
            assert np.isfinite(made).all()
            assert (np.abs(made - exact) <= 2e-5 * np.abs(exact) + 1e-5).all()


def test_snake_has_its_derivative(backends):
    random = np.random.RandomState(0)
    x, bias = random.uniform(-5, 5, (2, 4000, 8))
    alpha = random.uniform(0.1, 5, (4000, 8))
    ours = derivative(snake, x, bias, alpha)
    x = x + bias
    by_x = 1 + np.sin(2 * alpha * x)
    by_alpha = x * np.sin(2 * alpha * x) / alpha - np.sin(alpha * x) ** 2 / alpha**2
    for made, exact in zip(ours, (by_x, by_x, by_alpha), strict=True):
        assert np.abs(made - exact).max() < 1e-4 * np.abs(exact).max()


def fused_kernels(function, *arrays: mx.array) -> int:
    text = io.StringIO()
    mx.export_to_dot(text, mx.compile(function)(*arrays))
    return text.getvalue().count('label ="Compiled')


@NEEDS_COMPILER
def test_a_snake_is_one_kernel_and_is_not_written_over_its_input(backends):
    """Deeper, or where the two are the same memory, a CPU has no vector code for it."""
    bias, constants = mx.ones(8), kernels.SnakeConstants.of(mx.ones(8))
    x, matrix = mx.ones((1, 1000, 8)), mx.eye(8)
    mx.eval(bias, constants, x, matrix)

    def function(x: mx.array) -> mx.array:
        return kernels.snake(x @ matrix, bias, constants)

    assert fused_kernels(function, x) == 1
    if device.on_cpu():
        gc.collect()  # what other tests left must not go away meanwhile
        mx.reset_peak_memory()
        before, result = mx.get_active_memory(), mx.compile(function)(x)
        mx.eval(result)
        assert mx.get_peak_memory() - before >= 2 * result.nbytes
