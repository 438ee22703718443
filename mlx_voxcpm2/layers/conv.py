"""Causal convolutions over (B, L, C), as a stream or as a whole.

A stream is cut anywhere and gives the same samples as the whole: what a convolution needs of the
past is a `Context` passed in. Without one the past is silence, which is how a signal begins.
Upstream: modules/audiovae/audio_vae_v2.py (`CausalConv1d`, `CausalTransposeConv1d`, `snake`).
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn

from .backend import SnakeFactors, snake, weighted_sum
from .compiled import Derived


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

    def keep(self, rows: mx.array) -> None:
        """Only these rows of the batch go on."""
        if self.past is not None:
            self.past = self.past[rows]

    @classmethod
    def joined(cls, contexts: Sequence[Context]) -> Context:
        """Streams as one batch; one that has not begun has one row, and silence behind it."""
        result = cls()
        known = next((context.past for context in contexts if context.past is not None), None)
        if known is not None:
            silence = mx.zeros_like(known[:1])
            pasts = [silence if context.past is None else context.past for context in contexts]
            result.past = mx.concatenate(pasts)
        return result


class Biased:
    """A convolution's output (B, L, C) and the bias (C,) that is still to be added to it.

    The elementwise kernel that comes next adds it on its way, which saves a pass over memory.
    """

    def __init__(self, values: mx.array, bias: mx.array):
        self.values, self.bias = values, bias

    def whole(self) -> mx.array:
        return self.values + self.bias


class CausalConv1d(nn.Module):
    """Sees `(kernel - 1) * dilation + 1 - stride` inputs of the past.

    At a stride s upstream's kernel is 2s and pads `2 * ceil(s / 2) - s % 2` = s on the left, which
    is the same number, at odd strides too (VoxCPM 1's pads one more there).
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, dilation: int = 1
    ):
        super().__init__()
        self.weight = mx.zeros((out_channels, kernel, in_channels))
        self.bias = mx.zeros((out_channels,))
        self.stride, self.dilation = stride, dilation
        self.past = (kernel - 1) * dilation + 1 - stride

    @staticmethod
    def from_torch(weight: mx.array) -> mx.array:
        """(out, in, kernel) -> (out, kernel, in)."""
        return weight.transpose(0, 2, 1)

    @staticmethod
    def to_torch(weight: mx.array) -> mx.array:
        """(out, kernel, in) -> (out, in, kernel)."""
        return weight.transpose(0, 2, 1)

    def __call__(self, x: mx.array, context: Context | None = None) -> Biased:
        """x (B, L, in) -> (B, L / stride, out)."""
        if self.weight.shape[1] == 1:
            return Biased(x @ self.weight[:, 0].T, self.bias)
        x = (context or Context()).prepend(x, self.past)
        if self.dilation > 1:
            return Biased(self._as_product(x), self.bias)
        return Biased(mx.conv1d(x, self.weight, stride=self.stride), self.bias)

    def _as_product(self, x: mx.array) -> mx.array:
        """The shifted inputs side by side, times all taps: on a CPU MLX's dilated convolution takes
        20 to 60 times as long. No dilated one has a stride."""
        out, kernel, _ = self.weight.shape
        length = x.shape[1] - self.past
        starts = range(0, kernel * self.dilation, self.dilation)
        taps = mx.concatenate([x[:, start : start + length] for start in starts], axis=-1)
        return taps @ self.weight.reshape(out, -1).T


class CausalDepthwiseConv1d(nn.Module):
    """Each channel by itself: shifted multiply-adds, since MLX has no fast kernel once dilated."""

    def __init__(self, channels: int, kernel: int, dilation: int = 1):
        super().__init__()
        self.weight = mx.zeros((kernel, channels))
        self.bias = mx.zeros((channels,))
        self.dilation = dilation
        self._rows = Derived(list)

    @staticmethod
    def from_torch(weight: mx.array) -> mx.array:
        """(channels, 1, kernel) -> (kernel, channels)."""
        return weight[:, 0].T

    @staticmethod
    def to_torch(weight: mx.array) -> mx.array:
        """(kernel, channels) -> (channels, 1, kernel)."""
        return weight.T[:, None]

    def __call__(self, x: mx.array, context: Context | None = None) -> Biased:
        """x (B, L, channels) -> (B, L, channels)."""
        length, kernel = x.shape[1], self.weight.shape[0]
        x = (context or Context()).prepend(x, (kernel - 1) * self.dilation)
        starts = range(0, kernel * self.dilation, self.dilation)
        taps = [x[:, start : start + length] for start in starts]
        return Biased(weighted_sum(self._rows(self.weight), taps), self.bias)


def causal_conv1d(
    channels: int, kernel: int, dilation: int = 1, depthwise: bool = False
) -> CausalConv1d | CausalDepthwiseConv1d:
    """From as many channels to as many, each by itself or all together."""
    if depthwise:
        return CausalDepthwiseConv1d(channels, kernel, dilation)
    return CausalConv1d(channels, channels, kernel, dilation=dilation)


class CausalTransposeConv1d(nn.Module):
    """Upsamples by `stride` with a kernel of 2 * stride; sees one input of the past.

    Each of an input's outputs depends on it and on the one before, so the whole is one matrix
    product. Upstream computes the same and trims the end by `stride`.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        # The last two axes: of the input before and of this one, by input channel.
        self.weight = mx.zeros((stride, out_channels, 2, in_channels))
        self.bias = mx.zeros((out_channels,))

    @staticmethod
    def from_torch(weight: mx.array) -> mx.array:
        """(in, out, 2 * stride) -> (stride, out, 2, in)."""
        in_channels, out_channels, kernel = weight.shape
        halves = weight.reshape(in_channels, out_channels, 2, kernel // 2)[:, :, ::-1]
        return halves.transpose(3, 1, 2, 0)

    @staticmethod
    def to_torch(weight: mx.array) -> mx.array:
        """(stride, out, 2, in) -> (in, out, 2 * stride)."""
        stride, out_channels, _, in_channels = weight.shape
        halves = weight.transpose(3, 1, 2, 0)[:, :, ::-1]
        return halves.reshape(in_channels, out_channels, 2 * stride)

    def __call__(self, x: mx.array, context: Context | None = None) -> Biased:
        """x (B, L, in) -> (B, L * stride, out)."""
        batch, length, in_channels = x.shape
        stride, out_channels, _, _ = self.weight.shape
        x = (context or Context()).prepend(x, 1)
        pairs = mx.concatenate([x[:, :-1], x[:, 1:]], axis=-1)
        weight = self.weight.reshape(stride * out_channels, 2 * in_channels)
        y = (pairs @ weight.T).reshape(batch, length * stride, out_channels)
        return Biased(y, self.bias)


class Snake1d(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.alpha = mx.ones((channels,))
        self._factors = Derived(SnakeFactors.of)

    def __call__(self, x: Biased) -> mx.array:
        """x (B, L, C) -> (B, L, C)."""
        return snake(x.values, x.bias, self._factors(self.alpha))
