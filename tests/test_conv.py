"""Causal convolutions against sums written out in numpy, as a whole and as a stream."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from conftest import relative_error

from mlx_voxcpm2.layers.conv import (
    CausalConv1d,
    CausalDepthwiseConv1d,
    CausalTransposeConv1d,
    ConvState,
    make_states,
)

IN, OUT = 3, 4


def drawn(*shape: int) -> np.ndarray:
    return np.random.RandomState(sum(shape)).standard_normal(shape).astype(np.float32)


def with_weights(layer: nn.Module, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws the layer's weight, in PyTorch's layout, and its bias; returns both."""
    weight, bias = drawn(*shape), drawn(layer.bias.size)
    layer.weight, layer.bias = layer.from_torch(mx.array(weight)), mx.array(bias)
    return weight, bias


def convolved(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: int, dilation: int
) -> np.ndarray:
    """x (B, L, in), weight (out, in, kernel): output t sees no input after the end of stride t."""
    kernel = weight.shape[2]
    result = np.zeros((x.shape[0], x.shape[1] // stride, weight.shape[0])) + bias
    for t in range(result.shape[1]):
        for tap in range(kernel):
            place = (t + 1) * stride - 1 - (kernel - 1 - tap) * dilation
            if place >= 0:
                result[:, t] += x[:, place] @ weight[:, :, tap].T
    return result


def transposed(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: int) -> np.ndarray:
    """x (B, L, in), weight (in, out, kernel) -> (B, L * stride, out), the rest cut off."""
    length, kernel = x.shape[1], weight.shape[2]
    result = np.zeros((x.shape[0], length * stride + kernel, weight.shape[1]))
    for t in range(length):
        for tap in range(kernel):
            result[:, t * stride + tap] += x[:, t] @ weight[:, :, tap]
    return result[:, : length * stride] + bias


def assert_streams(layer: nn.Module, x: np.ndarray, wanted: np.ndarray, chunks: list[int]) -> None:
    """Check the layer's output, computed as a whole and in chunks."""
    assert relative_error(layer(mx.array(x)), wanted) < 1e-6
    state, parts = ConvState(), []
    for part in np.split(x, np.cumsum(chunks)[:-1], axis=1):
        parts.append(layer(mx.array(part), state))
    assert relative_error(mx.concatenate(parts, axis=1), wanted) < 1e-6
    layer_without_bias = layer.convolve(mx.array(x)) + layer.bias
    assert relative_error(layer_without_bias, wanted) < 1e-6


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"),
    [(1, 1, 1), (7, 1, 1), (7, 1, 3), (4, 2, 1), (6, 3, 1), (7, 3, 1), (3, 3, 1), (5, 2, 3)],
)
def test_a_convolution_is_the_sum_over_its_past(kernel, stride, dilation):
    layer = CausalConv1d(IN, OUT, kernel, stride, dilation)
    weight, bias = with_weights(layer, OUT, IN, kernel)
    chunks = [stride, 3 * stride, stride, 7 * stride]
    x = drawn(2, sum(chunks), IN)
    assert_streams(layer, x, convolved(x, weight, bias, stride, dilation), chunks)
    assert np.array_equal(layer.to_torch(layer.weight), weight)


@pytest.mark.parametrize("dilation", [1, 3, 9])
@pytest.mark.parametrize("kernel", [1, 4, 7])
def test_a_depthwise_convolution_is_one_per_channel(kernel, dilation):
    layer = CausalDepthwiseConv1d(IN, kernel, dilation)
    weight, bias = with_weights(layer, IN, 1, kernel)
    x, full = drawn(2, 20, IN), np.zeros((IN, IN, kernel))
    for channel in range(IN):
        full[channel, channel] = weight[channel, 0]
    assert_streams(layer, x, convolved(x, full, bias, 1, dilation), [1, 2, 16, 1])
    assert np.array_equal(layer.to_torch(layer.weight), weight)


@pytest.mark.parametrize(
    ("kernel", "stride"), [(16, 8), (4, 2), (6, 3), (10, 5), (7, 3), (3, 3), (2, 3), (5, 2), (1, 1)]
)
def test_a_transposed_convolution_adds_what_overlaps(kernel, stride):
    layer = CausalTransposeConv1d(IN, OUT, kernel, stride)
    weight, bias = with_weights(layer, IN, OUT, kernel)
    x = drawn(2, 11, IN)
    assert_streams(layer, x, transposed(x, weight, bias, stride), [1, 5, 1, 4])
    assert np.array_equal(layer.to_torch(layer.weight), weight)


def test_rows_join_and_leave_a_stream():
    layer = CausalConv1d(IN, OUT, 5)
    with_weights(layer, OUT, IN, 5)
    x = mx.array(drawn(3, 12, IN))
    first, second, fresh = ConvState(), ConvState(), ConvState()
    layer(x[:1, :6], first)
    layer(x[1:2, :6], second)
    both = ConvState.concatenated([first, fresh, second])
    joined = layer(mx.concatenate([x[:1, 6:], x[2:, 6:], x[1:2, 6:]]), both)
    alone = [layer(x[:2])[:1, 6:], layer(x[2:, 6:]), layer(x[:2])[1:, 6:]]
    assert relative_error(joined, mx.concatenate(alone)) < 1e-6
    both.select(mx.array([2]))
    assert both.inputs.shape == (1, 4, IN) and mx.array_equal(both.inputs, x[1:2, 8:])
    assert ConvState.concatenated([ConvState(), ConvState()]).inputs is None


def test_convolutions_without_a_past_have_no_state():
    layers = [CausalConv1d(IN, IN, 1), CausalConv1d(IN, IN, 7), CausalDepthwiseConv1d(IN, 7, 3)]
    layers += [CausalTransposeConv1d(IN, IN, 4, 2), CausalTransposeConv1d(IN, IN, 2, 2)]
    assert len(make_states(nn.Sequential(*layers))) == 3
