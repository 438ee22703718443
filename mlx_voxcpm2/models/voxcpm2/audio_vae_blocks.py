"""Blocks of the AudioVAE's encoder and decoder. Upstream: modules/audiovae/audio_vae_v2.py.

A block's convolutions leave their bias to the elementwise kernel that comes next (`DeferredBias`),
which saves a pass over memory. What such a kernel reads beside the audio depends on weights alone
and is computed in advance, by `precompute`; without that, each call computes it.
"""

from __future__ import annotations

from collections.abc import Iterator

import mlx.core as mx
import mlx.nn as nn

from ...layers import kernels
from ...layers.conv import (
    CausalConv1d,
    CausalDepthwiseConv1d,
    CausalTransposeConv1d,
    ConvState,
)
from ...layers.custom.kernel import CHOICES
from ...layers.custom.snake_conv import snake_conv

Convolution = CausalConv1d | CausalDepthwiseConv1d | CausalTransposeConv1d


class DeferredBias:
    """A convolution's output (B, L, C) and the bias (C,) that has yet to be added to it."""

    def __init__(self, values: mx.array, bias: mx.array):
        self.values, self.bias = values, bias

    @classmethod
    def of(cls, conv: Convolution, x: mx.array, state: ConvState | None = None) -> DeferredBias:
        """The output of a convolution: conv(x, state)."""
        return cls(conv.convolve(x, state), conv.bias)

    def added(self) -> mx.array:
        """Sum of both, (B, L, C)."""
        return self.values + self.bias


def same_size_conv(
    channels: int, kernel: int, dilation: int, depthwise: bool
) -> CausalConv1d | CausalDepthwiseConv1d:
    """Causal convolution with equal input and output channels, depthwise or full."""
    if depthwise:
        return CausalDepthwiseConv1d(channels, kernel, dilation)
    return CausalConv1d(channels, channels, kernel, dilation=dilation)


class Snake1d(nn.Module):
    """The activation y + sin(alpha y)^2 / alpha, with an alpha per channel."""

    def __init__(self, channels: int):
        super().__init__()
        self.alpha = mx.ones((channels,))
        self.discard()

    def precompute(self) -> list[mx.array]:
        """Stores the constants and returns them, for the caller to evaluate."""
        self._constants = kernels.SnakeConstants.of(self.alpha)
        return list(self._constants)

    def discard(self) -> None:
        self._constants: kernels.SnakeConstants | None = None

    @property
    def constants(self) -> kernels.SnakeConstants:
        """Those that are stored, or else computed now."""
        return self._constants or kernels.SnakeConstants.of(self.alpha)

    def __call__(self, x: DeferredBias) -> mx.array:
        """x (B, L, C) -> (B, L, C)."""
        return kernels.snake(x.values, x.bias, self.constants)


class ResidualUnit(nn.Module):
    def __init__(self, channels: int, dilation: int, depthwise: bool):
        super().__init__()
        self.block = [
            Snake1d(channels),
            same_size_conv(channels, 7, dilation, depthwise),
            Snake1d(channels),
            CausalConv1d(channels, channels, kernel=1),
        ]
        self.discard()

    def precompute(self, bias: mx.array) -> mx.array:
        """The bias deferred by the output, given the one of the input; stored and returned."""
        self._bias = bias + self.block[-1].bias
        return self._bias

    def discard(self) -> None:
        self._bias: mx.array | None = None

    def __call__(self, x: DeferredBias, states: Iterator[ConvState]) -> DeferredBias:
        """x (B, L, C) -> (B, L, C)."""
        snake_in, dilated, snake_out, pointwise = self.block
        state = next(states)
        y = self._custom(x, state) if CHOICES.are_asked else None
        if y is None:
            y = snake_out(DeferredBias.of(dilated, snake_in(x), state))
        bias = x.bias + pointwise.bias if self._bias is None else self._bias
        return DeferredBias(mx.addmm(x.values, y, pointwise.weight[:, 0].T), bias)

    def _custom(self, x: DeferredBias, state: ConvState) -> mx.array | None:
        """The first three layers by a custom kernel, None without it."""
        snake_in, dilated, snake_out, _ = self.block
        if self.training or not isinstance(dilated, CausalDepthwiseConv1d):
            return None
        found = snake_conv(
            x.values,
            state.inputs,
            (x.bias, snake_in.constants),
            (dilated.weight, dilated.bias, dilated.dilation),
            snake_out.constants,
        )
        if found is None:
            return None
        y, state.inputs = found
        return y


def residual_units(channels: int, depthwise: bool) -> list[ResidualUnit]:
    return [ResidualUnit(channels, dilation, depthwise) for dilation in (1, 3, 9)]


def precompute_biases(units: list[ResidualUnit], bias: mx.array) -> list[mx.array]:
    """Stores and returns each unit's output bias; `bias` is the one that the first one gets."""
    biases = []
    for unit in units:
        bias = unit.precompute(bias)
        biases.append(bias)
    return biases


class EncoderBlock(nn.Module):
    def __init__(self, channels: int, stride: int, depthwise: bool):
        super().__init__()
        self.block = [
            *residual_units(channels, depthwise),
            Snake1d(channels),
            CausalConv1d(channels, 2 * channels, kernel=2 * stride, stride=stride),
        ]

    def precompute(self, bias: mx.array) -> list[mx.array]:
        """Stores and returns the units' output biases; `bias` is the one that the input defers."""
        return precompute_biases(self.block[:-2], bias)

    def __call__(self, x: DeferredBias, states: Iterator[ConvState]) -> DeferredBias:
        """x (B, L, C) -> (B, L / stride, 2 C)."""
        *units, snake, downsample = self.block
        for unit in units:
            x = unit(x, states)
        return DeferredBias.of(downsample, snake(x), next(states) if downsample.context else None)


class DecoderBlock(nn.Module):
    def __init__(self, channels: int, stride: int, depthwise: bool):
        super().__init__()
        self.block = [
            Snake1d(channels),
            CausalTransposeConv1d(channels, channels // 2, 2 * stride, stride),
            *residual_units(channels // 2, depthwise),
        ]

    def precompute(self) -> list[mx.array]:
        """Stores and returns the units' output biases."""
        return precompute_biases(self.block[2:], self.block[1].bias)

    def __call__(self, x: DeferredBias, states: Iterator[ConvState]) -> DeferredBias:
        """x (B, L, C) -> (B, L * stride, C / 2)."""
        snake, upsample, *units = self.block
        x = DeferredBias.of(upsample, snake(x), next(states))
        for unit in units:
            x = unit(x, states)
        return x


class SampleRateCondition(nn.Module):
    """A scale and a bias per channel, by the band that the wanted sample rate falls into."""

    def __init__(self, channels: int, bands: int):
        super().__init__()
        self.scale_embed = nn.Embedding(bands, channels)
        self.bias_embed = nn.Embedding(bands, channels)

    def __call__(self, x: DeferredBias, band: int) -> DeferredBias:
        """x (B, L, C) -> (B, L, C)."""
        row = slice(band, band + 1)  # a view, where a lookup would be a kernel
        scaled = x.added() * self.scale_embed.weight[row]
        return DeferredBias(scaled, self.bias_embed.weight[row])
