"""Causal convolutions over (B, L, C), as a stream or as a whole.

A stream is cut anywhere and gives the same samples as the whole: what a convolution needs of the
past is a `Context` passed in. Without one the past is silence, which is how a signal begins.
Upstream: modules/audiovae/audio_vae_v2.py (`CausalConv1d`, `CausalTransposeConv1d`, `snake`).
"""

from __future__ import annotations

from functools import partial

import mlx.core as mx
import mlx.nn as nn

from ..backend import snake


class Context:
    """The last inputs of one convolution, or the tail that its next outputs have to add."""

    def __init__(self):
        self.past: mx.array | None = None

    def prepend(self, x: mx.array, length: int) -> mx.array:
        """x (B, L, ...) -> (B, length + L, ...): the past before it; keeps its end as the next."""
        if self.past is None:
            self.past = mx.zeros((x.shape[0], length, *x.shape[2:]), dtype=x.dtype)
        joined = mx.concatenate([self.past, x], axis=1)
        self.past = joined[:, joined.shape[1] - length :]
        return joined


@partial(mx.compile, shapeless=True)
def _weighted_sum(bias: mx.array, weights: list[mx.array], taps: list[mx.array]) -> mx.array:
    total = bias
    for weight, tap in zip(weights, taps, strict=True):
        total = total + weight * tap
    return total


class CausalConv1d(nn.Module):
    """Sees `(kernel - 1) * dilation + 1 - stride` inputs of the past.

    At a stride s upstream's kernel is 2s and pads `2 * ceil(s / 2) - s % 2` = s on the left, which
    is the same number, at odd strides too (VoxCPM 1's pads one more there).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
    ):
        super().__init__()
        self.weight = mx.zeros((out_channels, kernel, in_channels // groups))
        self.bias = mx.zeros((out_channels,))
        self.stride, self.dilation, self.groups = stride, dilation, groups
        self.past = (kernel - 1) * dilation + 1 - stride

    @staticmethod
    def from_torch(weight: mx.array) -> mx.array:
        """(out, in / groups, kernel) -> (out, kernel, in / groups)."""
        return weight.transpose(0, 2, 1)

    def __call__(self, x: mx.array, context: Context | None = None) -> mx.array:
        """x (B, L, in) -> (B, L / stride, out)."""
        if self.past:
            x = (context or Context()).prepend(x, self.past)
        out_channels, kernel, per_group = self.weight.shape
        if kernel == 1 and self.groups == 1:
            return mx.addmm(self.bias, x, self.weight[:, 0].T)
        if per_group == 1 and self.groups == out_channels and self.stride == 1:
            return self._depthwise(x, kernel)
        y = mx.conv1d(
            x, self.weight, stride=self.stride, dilation=self.dilation, groups=self.groups
        )
        return y + self.bias

    def _depthwise(self, x: mx.array, kernel: int) -> mx.array:
        """As shifted multiply-adds: MLX has no fast depthwise kernel once it is dilated."""
        length = x.shape[1] - self.past
        starts = [tap * self.dilation for tap in range(kernel)]
        return _weighted_sum(
            self.bias,
            [self.weight[:, tap, 0] for tap in range(kernel)],
            [x[:, start : start + length] for start in starts],
        )


class CausalTransposeConv1d(nn.Module):
    """Upsamples by `stride` with a kernel of 2 * stride; the last `stride` outputs wait.

    One matrix product gives each input's 2 * stride outputs; the second half of one input's
    overlaps the first half of the next one's. Upstream computes the same and trims the end.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.weight = mx.zeros((2 * stride, out_channels, in_channels))
        self.bias = mx.zeros((out_channels,))
        self.stride = stride

    @staticmethod
    def from_torch(weight: mx.array) -> mx.array:
        """(in, out, kernel) -> (kernel, out, in)."""
        return weight.transpose(2, 1, 0)

    def __call__(self, x: mx.array, context: Context | None = None) -> mx.array:
        """x (B, L, in) -> (B, L * stride, out)."""
        batch, length, in_channels = x.shape
        taps, out_channels, _ = self.weight.shape
        y = x @ self.weight.reshape(taps * out_channels, in_channels).T
        y = y.reshape(batch, length, 2, self.stride * out_channels)
        overlap = (context or Context()).prepend(y[:, :, 1], 1)[:, :length]
        y = (y[:, :, 0] + overlap).reshape(batch, length * self.stride, out_channels)
        return y + self.bias


class Snake1d(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.alpha = mx.ones((channels,))

    def __call__(self, x: mx.array) -> mx.array:
        """x (B, L, C) -> (B, L, C)."""
        return snake(x, self.alpha)
