"""VoxCPM2's network: text and patches -> hidden states -> the next patch and whether to stop.

Upstream: model/voxcpm2.py (`VoxCPM2Model`), modules/layers/scalar_quantization_layer.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn

from ...layers import kernels
from ...layers.compiled import fused
from ...layers.fused_linear import Evaluate
from ...layers.kv_cache import KVCache, Prefixes
from ...layers.transformer import ALL, Transformer
from ..family import Network
from .audio_vae import AudioVAE
from .config import VoxCPM2Config
from .family import FAMILY
from .flow import FlowMatching, Schedule
from .local_dit import LocalDiT
from .local_encoder import LocalEncoder


@fused
def _to_levels(x: mx.array, levels: int) -> mx.array:
    return mx.round(mx.tanh(x) * levels) / levels


def _through_levels(x: mx.array, levels: int) -> mx.array:
    """`_to_levels` with tanh's gradient: rounding has none (Bengio et al., arXiv 1308.3432)."""
    return mx.tanh(x) + mx.stop_gradient(_to_levels(x, levels) - mx.tanh(x))


class ScalarQuantization(nn.Module):
    """Finite scalar quantisation: Mentzer et al. 2023, arXiv 2309.15505."""

    def __init__(self, hidden: int, latents: int, levels: int):
        super().__init__()
        self.in_proj = nn.Linear(hidden, latents)
        self.out_proj = nn.Linear(latents, hidden)
        self.levels = levels

    def __call__(self, x: mx.array) -> mx.array:
        """x (B, T, H) -> (B, T, H)."""
        to_levels = _through_levels if self.training else _to_levels
        return self.out_proj(to_levels(self.in_proj(x), self.levels))


STORED_POSITIONS = 2048
"""Most positions of references whose keys and values are stored: at the released size 75 MB in 16
bits, five minutes of clips."""


class VoxCPM2Model(Network):
    family = FAMILY

    def __init__(self, config: VoxCPM2Config):
        super().__init__()
        self.config = config
        hidden, latents = config.lm_config.hidden_size, config.feat_dim
        patch = config.patch_size
        self.base_lm = Transformer(config.base_config, config.context_length)
        self.residual_lm = Transformer(config.residual_config, config.context_length)
        self.feat_encoder = LocalEncoder(config.local_encoder_config, latents, patch)
        self.feat_decoder = FlowMatching(LocalDiT(config.local_dit_config, latents, patch))
        self.fsq_layer = ScalarQuantization(
            hidden, config.scalar_quantization_latent_dim, config.scalar_quantization_scale
        )
        self.enc_to_lm_proj = nn.Linear(config.encoder_config.hidden_dim, hidden)
        self.lm_to_dit_proj = nn.Linear(hidden, config.dit_config.hidden_dim)
        self.res_to_dit_proj = nn.Linear(hidden, config.dit_config.hidden_dim)
        self.fusion_concat_proj = nn.Linear(2 * hidden, hidden)
        self.stop_proj = nn.Linear(hidden, hidden)
        self.stop_head = nn.Linear(hidden, 2, bias=False)
        self.audio_vae = AudioVAE(config.audio_vae_config)
        self.prefixes = Prefixes(STORED_POSITIONS)

    @property
    def sample_rate(self) -> int:
        """Sample rate of the speech in Hz."""
        return self.config.audio_vae_config.out_sample_rate

    @property
    def patch_samples(self) -> int:
        """Samples of speech per patch."""
        return self.config.patch_size * self.config.audio_vae_config.decoder_hop

    @property
    def dtype(self) -> mx.Dtype:
        """Type of the activations: that of the norms, which are never quantised."""
        return self.base_lm.norm.weight.dtype

    @property
    def stacks(self) -> tuple[Transformer, ...]:
        """The four transformers."""
        local = self.feat_encoder.encoder, self.feat_decoder.estimator.decoder
        return self.base_lm, self.residual_lm, *local

    def prepare(self, evaluate: Evaluate) -> None:
        """Fuses projections of the same input, and computes the AudioVAE's constants."""
        self.discard_prepared()
        for stack in self.stacks:
            stack.fuse(evaluate)
        self.audio_vae.precompute(evaluate)

    def discard_prepared(self) -> None:
        """Undoes `prepare`, see `Network.discard_prepared`."""
        for stack in self.stacks:
            stack.unfuse()
        self.feat_encoder.compiled.clear()
        self.feat_decoder.compiled.clear()
        self.audio_vae.discard()
        self.prefixes.clear()

    def make_cache(self, padding: Sequence[int] = ()) -> tuple[list[KVCache], list[KVCache]]:
        """Caches of the base and the residual language model; see `Transformer.make_cache`."""
        return self.base_lm.make_cache(padding), self.residual_lm.make_cache(padding)

    def embed_patches(self, patches: mx.array) -> mx.array:
        """patches (B, N, P, D) -> embeddings (B, N, H)."""
        return self.enc_to_lm_proj(self.feat_encoder(patches.astype(self.dtype)))

    def embed(
        self, tokens: mx.array, is_audio: mx.array, patches: mx.array | None = None
    ) -> mx.array:
        """tokens (B, T), is_audio (B, T) -> embeddings (B, T, H).

        patches (N, P, D): those of the N audio positions, row after row. The local encoder
        computes these positions only.
        """
        text = self.base_lm.embed(tokens)
        if patches is None:
            return text
        order = mx.maximum(mx.cumsum(is_audio.astype(mx.int32).reshape(-1)) - 1, 0)
        audio = self.embed_patches(patches[None])[0][order].reshape(text.shape)
        return mx.where(is_audio[..., None], audio, text)

    def __call__(
        self,
        embeddings: mx.array,
        is_audio: mx.array | None = None,
        cache: tuple[list[KVCache], list[KVCache]] | None = None,
        output_positions: slice = ALL,
    ) -> tuple[mx.array, mx.array]:
        """embeddings (B, T, H) -> hidden states of the base and the residual LM, (B, R, H) each.

        is_audio (B, T), or None if all positions are audio; there the base LM's are quantised.
        output_positions: the R positions to return, the last ones or all.
        """
        base_cache, residual_cache = cache or (None, None)
        hidden = self.base_lm(embeddings, base_cache)
        quantised = self.fsq_layer(hidden)
        if is_audio is None:
            hidden = quantised
        else:
            hidden = mx.where(is_audio[..., None], quantised, hidden)
            embeddings = mx.where(is_audio[..., None], embeddings, mx.zeros_like(embeddings))
        fused = self.fusion_concat_proj(mx.concatenate([hidden, embeddings], axis=-1))
        residual = self.residual_lm(fused, residual_cache, output_positions=output_positions)
        return hidden[:, output_positions], residual

    def stop_logits(self, hidden: mx.array) -> mx.array:
        """hidden (B, H) of the base LM -> (B, 2): continue, or stop after this patch."""
        return self.stop_head(kernels.silu(self.stop_proj(hidden)))

    def sample_patch(
        self,
        hidden: mx.array,
        residual: mx.array,
        cond: mx.array,
        noise: mx.array,
        schedule: Schedule,
        time_tokens: mx.array,
        cfg_value: float | mx.array,
    ) -> mx.array:
        """hidden and residual (B, H) -> the next patch (B, P, D).

        cond: the previous patch (B, P, D); noise (B, P, D); time_tokens:
        `feat_decoder.time_tokens(schedule)`; cfg_value: a number or (B,).
        """
        mu = mx.stack([self.lm_to_dit_proj(hidden), self.res_to_dit_proj(residual)], axis=1)
        return self.feat_decoder(mu, cond, noise, schedule, time_tokens, cfg_value)
