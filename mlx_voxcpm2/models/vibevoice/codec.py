"""VibeVoice's codec: audio at 24 kHz <-> latents, 7.5 a second, by causal convolutions; float32.

Upstream: vibevoice 0.0.1, modular/modular_vibevoice_tokenizer.py. A stream cut at the borders of
frames gives the same output as the whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import mlx.core as mx
import mlx.nn as nn

from ...layers import kernels
from ...layers.compiled import CompiledFunctions
from ...layers.conv import (
    CausalConv1d,
    CausalDepthwiseConv1d,
    CausalTransposeConv1d,
    ConvState,
)
from ...layers.transformer import RMSNorm
from .config import CodecConfig


class State:
    """Past inputs of the convolutions of one stream, or of one per row of a batch.

    A new one stands for silence; one that was used belongs to the network that used it.
    """

    def __init__(self, past: Sequence[mx.array] = ()):
        self.past = list(past)
        """(B, context, C) of each convolution, in the order in which they run; empty before any."""

    def select(self, rows: list[int]) -> None:
        """Drops all other rows of the batch."""
        self.past = self.selected(rows).past

    def selected(self, rows: list[int]) -> State:
        """A state of these rows alone."""
        return State([inputs[mx.array(rows)] for inputs in self.past])

    def replace(self, rows: list[int], other: State) -> None:
        """Replaces the past of these rows by that of another state."""
        for inputs, theirs in zip(self.past, other.past, strict=True):
            inputs[mx.array(rows)] = theirs

    def clear(self, row: int) -> None:
        """Makes the past of a row silence."""
        for inputs in self.past:
            inputs[row] = 0.0


class FeedForward(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.linear1 = nn.Linear(channels, 4 * channels)
        self.linear2 = nn.Linear(4 * channels, channels)


class Block(nn.Module):
    """Depthwise convolution and MLP, each added with a factor per channel."""

    def __init__(self, channels: int, config: CodecConfig):
        super().__init__()
        self.norm = RMSNorm(channels, config.eps)
        self.mixer = CausalDepthwiseConv1d(channels, config.kernel)
        self.gamma = mx.ones((channels,))
        self.ffn_norm = RMSNorm(channels, config.eps)
        self.ffn = FeedForward(channels)
        self.ffn_gamma = mx.ones((channels,))

    def __call__(self, x: mx.array, states: Iterator[ConvState]) -> mx.array:
        """x (B, L, C) -> (B, L, C)."""
        mixed = self.mixer.convolve(self.norm(x), next(states))
        x = kernels.scaled_sum(x, mixed, self.mixer.bias, self.gamma)
        normed = self.ffn_norm(x).reshape(-1, x.shape[-1])
        hidden = kernels.gelu(kernels.linear(self.ffn.linear1, normed))
        inner = kernels.product(hidden, self.ffn.linear2.weight)
        return kernels.scaled_sum(x, inner.reshape(x.shape), self.ffn.linear2.bias, self.ffn_gamma)


class Stage(nn.Module):
    """A convolution that changes the rate or the channels, and the blocks after it."""

    def __init__(self, conv: nn.Module, channels: int, depth: int, config: CodecConfig):
        super().__init__()
        self.conv = conv
        self.stage = [Block(channels, config) for _ in range(depth)]

    def __call__(self, x: mx.array, states: Iterator[ConvState]) -> mx.array:
        """x (B, L, C) -> (B, L', C')."""
        x = self.conv(x, next(states))
        for block in self.stage:
            x = block(x, states)
        return x


class Stack(nn.Module):
    """Stages and a last convolution, as a whole or as a stream."""

    def __init__(self, stages: list[Stage], head: CausalConv1d):
        super().__init__()
        self.stem, self.conv_layers = stages[0], stages[1:]
        self.head = head
        self.compiled = CompiledFunctions()

    def silence(self, rows: int) -> State:
        """State of streams that begin."""
        stages = (self.stem, *self.conv_layers)
        inner = [conv for stage in stages for conv in (stage.conv, *(b.mixer for b in stage.stage))]
        shapes = [(rows, conv.context, conv.weight.shape[-1]) for conv in (*inner, self.head)]
        return State([mx.zeros(shape) for shape in shapes])

    def __call__(self, x: mx.array, state: State | None = None) -> mx.array:
        """x (B, L, C) of whole frames -> (B, L', C'). `state` makes successive calls one stream."""
        x = x.astype(mx.float32)
        if state is None:
            return self._run(x, self.silence(len(x)).past)[0]
        past = state.past or self.silence(len(x)).past
        # Of a stream, every call has the same shapes.
        result, state.past = self.compiled("stream", self._run, x, past)
        return result

    def _run(self, x: mx.array, past: list[mx.array]) -> tuple[mx.array, list[mx.array]]:
        """x (B, L, C) and the past inputs -> (B, L', C') and those of the next call."""
        states = [ConvState(inputs) for inputs in past]
        remaining = iter(states)
        for stage in (self.stem, *self.conv_layers):
            x = stage(x, remaining)
        result = self.head(x, next(remaining))
        return result, [state.inputs for state in states if state.inputs is not None]


def make_encoder(config: CodecConfig) -> Stack:
    """Audio (B, samples, 1) -> the mean of its latents (B, L, D); channels double per stage."""
    channels, kernel = config.filters, config.kernel
    stages = [Stage(CausalConv1d(1, channels, kernel), channels, config.depths[0], config)]
    for ratio, depth in zip(config.ratios, config.depths[1:], strict=True):
        conv = CausalConv1d(channels, 2 * channels, 2 * ratio, ratio)
        channels *= 2
        stages.append(Stage(conv, channels, depth, config))
    return Stack(stages, CausalConv1d(channels, config.latent_dim, kernel))


def make_decoder(config: CodecConfig) -> Stack:
    """Latents (B, L, D) -> audio (B, samples, 1): the encoder's mirror image."""
    first, *depths = config.mirrored_depths
    channels, kernel = config.filters * 2 ** len(config.ratios), config.kernel
    stem = CausalConv1d(config.latent_dim, channels, kernel)
    stages = [Stage(stem, channels, first, config)]
    for ratio, depth in zip(config.ratios[::-1], depths, strict=True):
        conv = CausalTransposeConv1d(channels, channels // 2, 2 * ratio, ratio)
        channels //= 2
        stages.append(Stage(conv, channels, depth, config))
    return Stack(stages, CausalConv1d(channels, 1, kernel))


class SemanticTokenizer(nn.Module):
    """What is heard: audio -> semantic latents."""

    def __init__(self, config: CodecConfig):
        super().__init__()
        self.encoder = make_encoder(config)

    def encode(self, audio: mx.array, state: State | None = None) -> mx.array:
        """audio (B, samples, 1), whole frames -> (B, L, D)."""
        return self.encoder(audio, state)


class AcousticTokenizer(SemanticTokenizer):
    """How it sounds: audio -> the mean of its latents, and latents -> audio."""

    def __init__(self, config: CodecConfig):
        super().__init__(config)
        self.decoder = make_decoder(config)

    def decode(self, latents: mx.array, state: State | None = None) -> mx.array:
        """latents (B, L, D) -> audio (B, samples, 1), nominally -1..1."""
        return self.decoder(latents, state)


def sample_latents(
    mean: mx.array, std: mx.array, noise: mx.array, spread: float = 0.625
) -> mx.array:
    """Draw latents (B, L, D) around their mean, with a spread of its own for each clip.

    std (B,) and noise (B, L, D): standard normal. Sigma-VAE: Sun et al. 2024, arXiv 2412.08635.
    """
    return mean + (spread * std)[:, None, None] * noise
