"""AudioVAE V2: audio at 16 kHz -> latents -> audio at 48 kHz. Always float32, as upstream.

Upstream: modules/audiovae/audio_vae_v2.py; attribute names are the checkpoint's. A stream's cache
is a list with the state of each convolution, in the order in which they run.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import partial

import mlx.core as mx
import mlx.nn as nn

from ...layers.compiled import CompiledFunctions
from ...layers.conv import CausalConv1d, ConvState, make_states
from .audio_vae_blocks import (
    DecoderBlock,
    DeferredBias,
    EncoderBlock,
    ResidualUnit,
    SampleRateCondition,
    Snake1d,
    same_size_conv,
)
from .config import AudioVAEConfig

ConvCache = list[ConvState]


class Encoder(nn.Module):
    def __init__(self, config: AudioVAEConfig):
        super().__init__()
        channels = config.encoder_dim
        self.block = [CausalConv1d(1, channels, kernel=7)]
        for stride in config.encoder_rates:
            self.block.append(EncoderBlock(channels, stride, config.depthwise))
            channels *= 2
        self.fc_mu = CausalConv1d(channels, config.latent_channels, kernel=3)

    def make_cache(self) -> ConvCache:
        """The state of a stream that begins."""
        return make_states(self)

    def precompute(self) -> list[mx.array]:
        """Stores the blocks' constants and returns them, for the caller to evaluate."""
        first, *blocks = self.block
        biases = [first.bias, *(block.block[-1].bias for block in blocks[:-1])]
        pairs = zip(blocks, biases, strict=True)
        return [array for block, bias in pairs for array in block.precompute(bias)]

    def __call__(self, x: mx.array, cache: ConvCache | None = None) -> mx.array:
        """x (B, samples, 1) -> the mean of the latents (B, L, D)."""
        first, *blocks = self.block
        states = iter(cache or self.make_cache())
        x = DeferredBias.of(first, x, next(states))
        for block in blocks:
            x = block(x, states)
        return self.fc_mu(x.added(), next(states))


class Decoder(nn.Module):
    def __init__(self, config: AudioVAEConfig):
        super().__init__()
        latents, channels = config.latent_channels, config.decoder_dim
        if config.depthwise:
            self.model = [
                same_size_conv(latents, 7, dilation=1, depthwise=True),
                CausalConv1d(latents, channels, kernel=1),
            ]
        else:
            self.model = [CausalConv1d(latents, channels, kernel=7)]
        widths = {}
        for stride in config.decoder_rates:
            widths[len(self.model)] = channels
            self.model.append(DecoderBlock(channels, stride, config.depthwise))
            channels //= 2
        self.model += [Snake1d(channels), CausalConv1d(channels, 1, kernel=7)]
        self._boundaries: tuple[int, ...] | None = None
        if config.sr_bin_boundaries is not None:
            # Ascending rates in Hz. In the checkpoint, so a parameter here, though never trained.
            self.sr_bin_boundaries = mx.array(config.sr_bin_boundaries, dtype=mx.int32)
            bands = len(config.sr_bin_boundaries) + 1
            self.sr_cond_model = [
                SampleRateCondition(widths[index], bands) if index in widths else nn.Identity()
                for index in range(len(self.model))
            ]

    @property
    def is_conditioned(self) -> bool:
        """Whether the wanted sample rate changes the audio."""
        return "sr_bin_boundaries" in self

    def make_cache(self) -> ConvCache:
        """The state of a stream that begins."""
        return make_states(self)

    def precompute(self) -> list[mx.array]:
        """Stores the blocks' constants and returns them, for the caller to evaluate."""
        if self.is_conditioned:
            self._boundaries = tuple(self.sr_bin_boundaries.tolist())
        blocks = [layer for layer in self.model if isinstance(layer, DecoderBlock)]
        return [array for block in blocks for array in block.precompute()]

    def discard(self) -> None:
        self._boundaries = None

    def band(self, sample_rate: int) -> int:
        """Index of the band that a rate in Hz is in; a boundary ends its band (torch.bucketize)."""
        boundaries = self._boundaries or self.sr_bin_boundaries.tolist()
        return bisect_left(boundaries, sample_rate)

    def __call__(self, x: mx.array, sample_rate: int, cache: ConvCache | None = None) -> mx.array:
        """x (B, L, D) -> audio in -1..1 (B, L * product of the rates)."""
        band = self.band(sample_rate) if self.is_conditioned else None
        states = iter(cache or self.make_cache())
        first, *pointwise, snake, last = (
            layer for layer in self.model if not isinstance(layer, DecoderBlock)
        )
        x = DeferredBias.of(first, x, next(states))
        for conv in pointwise:  # in the depthwise variant
            x = DeferredBias.of(conv, x.added())
        for index, block in enumerate(self.model):
            if isinstance(block, DecoderBlock):
                x = x if band is None else self.sr_cond_model[index](x, band)
                x = block(x, states)
        return mx.tanh(last(snake(x), next(states))).squeeze(-1)


class AudioVAE(nn.Module):
    def __init__(self, config: AudioVAEConfig):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.compiled = CompiledFunctions()
        self._is_precomputed = False

    def precompute(self, evaluate: Callable[..., None]) -> None:
        """Computes what depends on the final weights alone, so that no graph contains it."""
        snakes = [module for module in self.modules() if isinstance(module, Snake1d)]
        constants = [array for snake in snakes for array in snake.precompute()]
        evaluate([*constants, *self.encoder.precompute(), *self.decoder.precompute()])
        self._is_precomputed = True

    def discard(self) -> None:
        """Discards what was computed from the weights, before they are replaced."""
        self.compiled.clear()
        if self._is_precomputed:
            for module in self.modules():
                if isinstance(module, Snake1d | ResidualUnit | Decoder):
                    module.discard()
        self._is_precomputed = False

    def encode(self, audio: mx.array, cache: ConvCache | None = None) -> mx.array:
        """audio at `sample_rate` (B, samples), a multiple of the hop -> latents (B, L, D).

        `cache`, from `encoder.make_cache`, makes successive calls one stream.
        """
        return self.encoder(audio.astype(mx.float32)[..., None], cache)

    def decode(
        self, latents: mx.array, sample_rate: int | None = None, cache: ConvCache | None = None
    ) -> mx.array:
        """latents (B, L, D) -> audio at `out_sample_rate` (B, L * hop).

        `sample_rate` (Hz) conditions the timbre, as if made for that rate; by default the output's.
        `cache`, from `make_cache`, makes successive calls one stream.
        """
        rate = self.config.out_sample_rate if sample_rate is None else sample_rate
        latents = latents.astype(mx.float32)
        if not cache or cache[0].inputs is None:
            return self.decoder(latents, rate, cache)
        # A stream that has begun: the same shapes, patch after patch.
        past = self.cache_arrays(cache)
        audio, past = self.compiled(rate, partial(self._step, rate), latents, past)
        for state, inputs in zip(cache, past, strict=True):
            state.inputs = inputs
        return audio

    def _step(
        self, sample_rate: int, latents: mx.array, past: list[mx.array]
    ) -> tuple[mx.array, list[mx.array]]:
        """`decode` as a function of arrays alone."""
        cache = [ConvState(inputs) for inputs in past]
        audio = self.decoder(latents, sample_rate, cache)
        return audio, self.cache_arrays(cache)

    def make_cache(self) -> ConvCache:
        """The state of a decoded stream that begins."""
        return self.decoder.make_cache()

    def join_caches(self, caches: Sequence[ConvCache]) -> ConvCache:
        """One batch of several streams; those that have not begun have one row each."""
        return [ConvState.concatenated(states) for states in zip(*caches, strict=True)]

    def select(self, cache: ConvCache, rows: Sequence[int]) -> None:
        """Drops all other rows of a batch of streams."""
        chosen = mx.array(rows)
        for state in cache:
            state.select(chosen)

    def cache_arrays(self, cache: ConvCache) -> list[mx.array]:
        """The arrays of a stream that has begun."""
        return [state.inputs for state in cache if state.inputs is not None]
