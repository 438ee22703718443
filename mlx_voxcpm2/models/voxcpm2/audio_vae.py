"""AudioVAE V2: sound at 16 kHz -> latents -> sound at 48 kHz. Always float32, as upstream.

Upstream: modules/audiovae/audio_vae_v2.py; attribute names are the checkpoint's.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import partial

import mlx.core as mx
import mlx.nn as nn

from ...layers.compiled import CompiledGraphs, Derived
from ...layers.conv import (
    Biased,
    CausalConv1d,
    CausalTransposeConv1d,
    Context,
    Snake1d,
    causal_conv1d,
)
from .config import AudioVAEConfig


class ResidualUnit(nn.Module):
    def __init__(self, channels: int, dilation: int, depthwise: bool):
        super().__init__()
        self.block = [
            Snake1d(channels),
            causal_conv1d(channels, 7, dilation, depthwise),
            Snake1d(channels),
            CausalConv1d(channels, channels, kernel=1),
        ]
        self._bias = Derived(mx.add)

    def make_cache(self) -> Context:
        return Context()

    def __call__(self, x: Biased, context: Context | None = None) -> Biased:
        """x (B, L, C) -> (B, L, C)."""
        snake_in, dilated, snake_out, pointwise = self.block
        y = snake_out(dilated(snake_in(x), context))
        bias = self._bias(x.bias, pointwise.bias)
        return Biased(mx.addmm(x.values, y, pointwise.weight[:, 0].T), bias)


def _residual_units(channels: int, depthwise: bool) -> list[ResidualUnit]:
    return [ResidualUnit(channels, dilation, depthwise) for dilation in (1, 3, 9)]


class EncoderBlock(nn.Module):
    def __init__(self, channels: int, stride: int, depthwise: bool):
        super().__init__()
        self.block = [
            *_residual_units(channels, depthwise),
            Snake1d(channels),
            CausalConv1d(channels, 2 * channels, kernel=2 * stride, stride=stride),
        ]

    def make_cache(self) -> list[Context]:
        return [Context() for layer in self.block if not isinstance(layer, Snake1d)]

    def __call__(self, x: Biased, contexts: list[Context]) -> Biased:
        """x (B, L, C) -> (B, L / stride, 2 C)."""
        *units, snake, downsample = self.block
        *units_past, past = contexts
        for unit, context in zip(units, units_past, strict=True):
            x = unit(x, context)
        return downsample(snake(x), past)


class Encoder(nn.Module):
    def __init__(self, config: AudioVAEConfig):
        super().__init__()
        channels = config.encoder_dim
        self.block = [CausalConv1d(1, channels, kernel=7)]
        for stride in config.encoder_rates:
            self.block.append(EncoderBlock(channels, stride, config.depthwise))
            channels *= 2
        self.fc_mu = CausalConv1d(channels, config.latent_channels, kernel=3)

    def make_cache(self) -> list[Context | list[Context]]:
        blocks = [layer.make_cache() for layer in self.block[1:]]
        return [Context(), *blocks, Context()]

    def __call__(self, x: mx.array, cache: list | None = None) -> mx.array:
        """x (B, samples, 1) -> the mean of the latents (B, L, D)."""
        first, *states, last = cache or self.make_cache()
        x = self.block[0](x, first)
        for block, contexts in zip(self.block[1:], states, strict=True):
            x = block(x, contexts)
        return self.fc_mu(x.whole(), last).whole()


class DecoderBlock(nn.Module):
    def __init__(self, channels: int, stride: int, depthwise: bool):
        super().__init__()
        self.block = [
            Snake1d(channels),
            CausalTransposeConv1d(channels, channels // 2, stride),
            *_residual_units(channels // 2, depthwise),
        ]

    def make_cache(self) -> list[Context]:
        return [Context() for _ in self.block[1:]]

    def __call__(self, x: Biased, contexts: list[Context]) -> Biased:
        """x (B, L, C) -> (B, L * stride, C / 2)."""
        snake, *layers = self.block
        x = snake(x)
        for layer, context in zip(layers, contexts, strict=True):
            x = layer(x, context)
        return x


class SampleRateCondition(nn.Module):
    """A scale and a bias per channel, by the band that the wanted sample rate falls into."""

    def __init__(self, channels: int, bands: int):
        super().__init__()
        self.scale_embed = nn.Embedding(bands, channels)
        self.bias_embed = nn.Embedding(bands, channels)

    def __call__(self, x: Biased, band: int) -> Biased:
        """x (B, L, C) -> (B, L, C)."""
        row = slice(band, band + 1)  # a view, where a lookup would be a kernel
        scaled = x.whole() * self.scale_embed.weight[row]
        return Biased(scaled, self.bias_embed.weight[row])


class Decoder(nn.Module):
    def __init__(self, config: AudioVAEConfig):
        super().__init__()
        latents, channels = config.latent_channels, config.decoder_dim
        if config.depthwise:
            self.model = [
                causal_conv1d(latents, 7, depthwise=True),
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
        if config.sr_bin_boundaries is not None:
            # Ascending rates in Hz. In the checkpoint, so a parameter here, though never trained.
            self.sr_bin_boundaries = mx.array(config.sr_bin_boundaries, dtype=mx.int32)
            self._boundaries = Derived(mx.array.tolist)
            bands = len(config.sr_bin_boundaries) + 1
            self.sr_cond_model = [
                SampleRateCondition(widths[index], bands) if index in widths else nn.Identity()
                for index in range(len(self.model))
            ]

    @property
    def is_conditioned(self) -> bool:
        """Whether the wanted sample rate changes the sound."""
        return "sr_bin_boundaries" in self

    def band(self, sample_rate: int) -> int:
        """As torch.bucketize: a rate that equals a boundary falls below it."""
        return bisect_left(self._boundaries(self.sr_bin_boundaries), sample_rate)

    def make_cache(self) -> list[Context | list[Context] | None]:
        return [
            layer.make_cache() if isinstance(layer, DecoderBlock)
            else None if isinstance(layer, Snake1d) else Context()
            for layer in self.model
        ]  # fmt: skip

    def __call__(self, x: mx.array, sample_rate: int, cache: list | None = None) -> mx.array:
        """x (B, L, D) -> sound in -1..1 (B, L * product of the rates)."""
        band = self.band(sample_rate) if self.is_conditioned else None
        for index, (layer, state) in enumerate(
            zip(self.model, cache or self.make_cache(), strict=True)
        ):
            if isinstance(layer, DecoderBlock):
                x = x if band is None else self.sr_cond_model[index](x, band)
                x = layer(x, state)
            elif isinstance(layer, Snake1d):
                x = layer(x)
            else:
                x = layer(x.whole() if isinstance(x, Biased) else x, state)
        return mx.tanh(x.whole()).squeeze(-1)


class AudioVAE(nn.Module):
    def __init__(self, config: AudioVAEConfig):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.compiled = CompiledGraphs(self.decoder)

    def derive(self, evaluate: Callable[..., None]) -> None:
        """See `Derived`: once the weights are final, so that no graph holds how it is computed."""
        self.encode(mx.zeros((1, self.config.encoder_hop)))
        self.decode(mx.zeros((1, 1, self.config.latent_channels)))
        known = [value for module in self.modules() for value in vars(module).values()]
        evaluate([value.result for value in known if isinstance(value, Derived)])

    def encode(self, audio: mx.array, cache: list | None = None) -> mx.array:
        """audio at `sample_rate` (B, samples), a multiple of the hop -> latents (B, L, D).

        `cache`, from `encoder.make_cache`, makes successive calls one stream.
        """
        return self.encoder(audio.astype(mx.float32)[..., None], cache)

    def decode(
        self, latents: mx.array, sample_rate: int | None = None, cache: list | None = None
    ) -> mx.array:
        """latents (B, L, D) -> sound at `out_sample_rate` (B, L * hop).

        `sample_rate` (Hz) conditions the timbre, as if made for that rate; by default the output's.
        `cache`, from `make_cache`, makes successive calls one stream.
        """
        rate = self.config.out_sample_rate if sample_rate is None else sample_rate
        latents = latents.astype(mx.float32)
        contexts = self.contexts(cache or [])
        if not contexts or contexts[0].past is None:
            return self.decoder(latents, rate, cache)
        # On from what the stream holds, as it does patch after patch.
        pasts = [context.past for context in contexts]
        step = partial(self._step, rate)
        sound, pasts = self.compiled(rate, step, latents, pasts)
        for context, past in zip(contexts, pasts, strict=True):
            context.past = past
        return sound

    def _step(
        self, sample_rate: int, latents: mx.array, pasts: list[mx.array]
    ) -> tuple[mx.array, list[mx.array]]:
        cache = self.make_cache()
        contexts = self.contexts(cache)
        for context, past in zip(contexts, pasts, strict=True):
            context.past = past
        sound = self.decoder(latents, sample_rate, cache)
        return sound, [context.past for context in contexts]

    def make_cache(self) -> list:
        return self.decoder.make_cache()

    def contexts(self, cache: list) -> list[Context]:
        """What a stream carries on, without the nesting."""
        found: list[Context] = []
        for entry in cache:
            if isinstance(entry, list):
                found += self.contexts(entry)
            elif entry is not None:
                found.append(entry)
        return found

    def join_caches(self, caches: list[list]) -> list:
        """Streams, of one row each unless they have begun, go on as one batch."""
        joined = self.make_cache()
        rows = zip(self.contexts(joined), *map(self.contexts, caches), strict=True)
        for target, *contexts in rows:
            target.past = Context.joined(contexts).past
        return joined

    def keep(self, cache: list, rows: Sequence[int]) -> None:
        """Only these rows of a batch of streams go on."""
        chosen = mx.array(rows)
        for context in self.contexts(cache):
            context.keep(chosen)

    def held(self, cache: list) -> list[mx.array]:
        """The arrays that a stream carries on."""
        return [context.past for context in self.contexts(cache) if context.past is not None]
