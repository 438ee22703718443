"""Causal convolutions over (B, L, C), padded on the left, as a whole or as a stream.

A stream cut into chunks gives the same output as the whole: the inputs that a convolution still
needs are in a `ConvState`, which is passed in and updated, as attention's cache is. Without one the
past is silence, which is how a signal begins.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn

from . import kernels
from .kernels_gpu import shifted


class ConvState:
    """Streaming state of one convolution: its last inputs (B, `context`, C), None before any."""

    def __init__(self, inputs: mx.array | None = None):
        self.inputs = inputs

    def extend(self, x: mx.array, context: int) -> mx.array:
        """x (B, L, C) -> (B, context + L, C) with the inputs before it; its end is stored."""
        if self.inputs is None:
            self.inputs = mx.zeros((x.shape[0], context, *x.shape[2:]), dtype=x.dtype)
        extended = mx.concatenate([self.inputs, x], axis=1)
        self.inputs = extended[:, extended.shape[1] - context :]
        return extended

    def select(self, rows: mx.array) -> None:
        """Drops all other rows of the batch."""
        if self.inputs is not None:
            self.inputs = self.inputs[rows]

    @classmethod
    def concatenated(cls, states: Sequence[ConvState]) -> ConvState:
        """Streams as one batch; one that has not begun becomes one row of silence."""
        known = next((state.inputs for state in states if state.inputs is not None), None)
        if known is None:
            return cls()
        silence = mx.zeros_like(known[:1])
        rows = [silence if state.inputs is None else state.inputs for state in states]
        return cls(mx.concatenate(rows))


class CausalConv1d(nn.Module):
    """Each output sees the inputs up to the end of its stride.

    A stream's chunks are multiples of the stride, which the kernel spans at least.

    Upstream's kernel at a stride s is 2s and its padding `2 * ceil(s / 2) - s % 2` = s, which is
    this `context`, at odd strides too (VoxCPM 1 pads one more there).
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, dilation: int = 1
    ):
        super().__init__()
        self.weight = mx.zeros((out_channels, kernel, in_channels))
        self.bias = mx.zeros((out_channels,))
        self.stride, self.dilation = stride, dilation
        self.context = (kernel - 1) * dilation + 1 - stride
        """Inputs that the next outputs need again."""

    def from_torch(self, weight: mx.array) -> mx.array:
        """(out, in, kernel) -> (out, kernel, in)."""
        return weight.transpose(0, 2, 1)

    def to_torch(self, weight: mx.array) -> mx.array:
        """(out, kernel, in) -> (out, in, kernel)."""
        return weight.transpose(0, 2, 1)

    def __call__(self, x: mx.array, state: ConvState | None = None) -> mx.array:
        """x (B, L, in) -> (B, L / stride, out)."""
        return self.convolve(x, state) + self.bias

    def convolve(self, x: mx.array, state: ConvState | None = None) -> mx.array:
        """The convolution without its bias, for callers who add that in a later kernel."""
        out, kernel, _ = self.weight.shape
        if kernel == 1 and self.stride == 1:
            return kernels.product(x, self.weight[:, 0])
        batch, outputs, channels = x.shape[0], x.shape[1] // self.stride, x.shape[2]
        if self.context:
            x = (state or ConvState()).extend(x, self.context)
        if self.stride == 1 and self.dilation > 1:
            # The taps side by side, times all weights: on a CPU MLX's dilated convolution takes 20
            # to 60 times as long.
            taps = mx.concatenate(shifted(x, kernel, self.dilation), axis=-1)
            return kernels.product(taps, self.weight.reshape(out, -1))
        is_whole = kernel % self.stride == 0 and self.dilation == 1
        if self.stride > 1 and is_whole and kernels.multiplies_in_blocks(batch * outputs):
            strides = x.reshape(batch, -1, self.stride * channels)
            taps = mx.concatenate(shifted(strides, kernel // self.stride), axis=-1)
            return kernels.product(taps, self.weight.reshape(out, -1))
        return mx.conv1d(x, self.weight, stride=self.stride, dilation=self.dilation)


class CausalDepthwiseConv1d(nn.Module):
    """Each channel convolved by itself."""

    def __init__(self, channels: int, kernel: int, dilation: int = 1):
        super().__init__()
        self.weight = mx.zeros((kernel, channels))
        self.bias = mx.zeros((channels,))
        self.dilation = dilation
        self.context = (kernel - 1) * dilation

    def from_torch(self, weight: mx.array) -> mx.array:
        """(channels, 1, kernel) -> (kernel, channels)."""
        return weight[:, 0].T

    def to_torch(self, weight: mx.array) -> mx.array:
        """(kernel, channels) -> (channels, 1, kernel)."""
        return weight.T[:, None]

    def __call__(self, x: mx.array, state: ConvState | None = None) -> mx.array:
        """x (B, L, channels) -> (B, L, channels)."""
        return self.convolve(x, state) + self.bias

    def convolve(self, x: mx.array, state: ConvState | None = None) -> mx.array:
        """The convolution without its bias."""
        x = (state or ConvState()).extend(x, self.context)
        return kernels.depthwise(x, self.weight, self.dilation)


class CausalTransposeConv1d(nn.Module):
    """Upsamples by `stride`; outputs beyond the end of the last input's stride are cut off.

    Each input's `stride` outputs depend on it and on the `context` inputs before it, so the whole
    is one matrix product. MLX's CPU backend has a scalar loop for transposed convolutions.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int):
        super().__init__()
        self.kernel, self.stride = kernel, stride
        inputs = -(-kernel // stride)
        self.context = inputs - 1
        # By the output's place in its stride, and by the inputs that it sees, the last one last.
        self.weight = mx.zeros((stride, out_channels, inputs, in_channels))
        self.bias = mx.zeros((out_channels,))

    def from_torch(self, weight: mx.array) -> mx.array:
        """(in, out, kernel) -> (stride, out, context + 1, in)."""
        in_channels, out_channels, kernel = weight.shape
        inputs = self.context + 1
        padded = mx.pad(weight, [(0, 0), (0, 0), (0, inputs * self.stride - kernel)])
        taps = padded.reshape(in_channels, out_channels, inputs, self.stride)
        return taps[:, :, ::-1].transpose(3, 1, 2, 0)

    def to_torch(self, weight: mx.array) -> mx.array:
        """(stride, out, context + 1, in) -> (in, out, kernel)."""
        taps = weight.transpose(3, 1, 2, 0)[:, :, ::-1]
        return taps.reshape(*taps.shape[:2], -1)[:, :, : self.kernel]

    def __call__(self, x: mx.array, state: ConvState | None = None) -> mx.array:
        """x (B, L, in) -> (B, L * stride, out)."""
        return self.convolve(x, state) + self.bias

    def convolve(self, x: mx.array, state: ConvState | None = None) -> mx.array:
        """The convolution without its bias."""
        stride, out, inputs, _ = self.weight.shape
        if self.context:
            x = (state or ConvState()).extend(x, self.context)
            x = mx.concatenate(shifted(x, inputs), axis=-1)
        y = kernels.product(x, self.weight.reshape(stride * out, -1))
        return y.reshape(x.shape[0], -1, out)


def make_states(network: nn.Module) -> list[ConvState]:
    """New states, one per convolution of the network that needs past inputs.

    They are all alike: the network assigns them in the order in which its convolutions run.
    """
    return [ConvState() for module in network.modules() if getattr(module, "context", 0)]
