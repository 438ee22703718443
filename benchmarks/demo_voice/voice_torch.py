"""VoxCPM2's network without its AudioVAE, in PyTorch, for training.

Names of weights and the computation are those of `mlx_voxcpm2.models.voxcpm2`; upstream's sources
are named there. Queries, keys and values have the same number of heads.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from mlx_voxcpm2.layers.config import TransformerConfig
from mlx_voxcpm2.models.voxcpm2.config import VoxCPM2Config


class Attention(nn.Module):
    def __init__(self, config: TransformerConfig):
        super().__init__()
        hidden, self.heads = config.hidden_size, config.num_attention_heads
        inner = self.heads * config.head_size
        self.q_proj = nn.Linear(hidden, inner, bias=False)
        self.k_proj = nn.Linear(hidden, inner, bias=False)
        self.v_proj = nn.Linear(hidden, inner, bias=False)
        self.o_proj = nn.Linear(inner, hidden, bias=False)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor] | None, causal: bool) -> Tensor:
        queries, keys, values = (
            self.split(layer(x)) for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        # Written out: for sequences this short, PyTorch's own attention takes half of a step.
        scores = rotated(queries, rope) @ rotated(keys, rope).transpose(2, 3)
        scores = scores.float() * queries.shape[-1] ** -0.5
        scores = without_later(scores) if causal else scores
        mixed = scores.softmax(-1).to(values.dtype) @ values
        return self.o_proj(mixed.transpose(1, 2).flatten(2))

    def split(self, x: Tensor) -> Tensor:
        """(B, T, heads * size) -> (B, heads, T, size)."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def scores(self, x: Tensor, rope: tuple[Tensor, Tensor] | None) -> Tensor:
        """Scores of the first head (B, T, T), -inf where a position is later."""
        size = self.q_proj.out_features // self.heads
        queries, keys = (
            rotated(functional.linear(x, layer.weight[:size])[:, None], rope)[:, 0]
            for layer in (self.q_proj, self.k_proj)
        )
        return without_later(queries @ keys.transpose(1, 2) * size**-0.5)


def without_later(scores: Tensor) -> Tensor:
    """Scores (..., T, T) with -inf where the second position is later than the first."""
    later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
    return scores.masked_fill(later, -math.inf)


def rotated(x: Tensor, rope: tuple[Tensor, Tensor] | None) -> Tensor:
    """Rotary position embedding of (B, heads, T, size)."""
    if rope is None:
        return x
    cosine, sine = (each[: x.shape[2]].to(x.dtype) for each in rope)
    first, second = x.chunk(2, -1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], -1)


class MLP(nn.Module):
    def __init__(self, hidden: int, inner: int):
        super().__init__()
        self.gate_proj = nn.Linear(hidden, inner, bias=False)
        self.up_proj = nn.Linear(hidden, inner, bias=False)
        self.down_proj = nn.Linear(inner, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class DecoderLayer(nn.Module):
    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = MLP(config.hidden_size, config.intermediate_size)
        self.input_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor] | None, causal: bool) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), rope, causal)
        return x + self.mlp(self.post_attention_layernorm(x))


class Transformer(nn.Module):
    def __init__(self, config: TransformerConfig, positions: int, causal: bool = True):
        super().__init__()
        if config.vocab_size:
            self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.causal, self.has_rope = causal, config.rope_theta is not None
        if self.has_rope:
            exponents = torch.arange(0, config.head_size, 2) / config.head_size
            angles = torch.arange(positions)[:, None] * config.rope_theta**-exponents
            self.register_buffer("cosine", angles.cos(), persistent=False)
            self.register_buffer("sine", angles.sin(), persistent=False)

    @property
    def rope(self) -> tuple[Tensor, Tensor] | None:
        return (self.cosine, self.sine) if self.has_rope else None

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()  # also in `fast_products`, so that small additions count
        for layer in self.layers:
            x = layer(x, self.rope, self.causal)
        return self.norm(x)


class LocalEncoder(nn.Module):
    def __init__(self, config: VoxCPM2Config):
        super().__init__()
        sizes = config.local_encoder_config
        self.special_token = nn.Parameter(torch.zeros(1, 1, 1, sizes.hidden_size))
        self.in_proj = nn.Linear(config.feat_dim, sizes.hidden_size)
        self.encoder = Transformer(sizes, config.patch_size + 1, causal=False)

    def forward(self, patches: Tensor) -> Tensor:
        """(N, P, D) -> (N, H)."""
        first = self.special_token[0].expand(len(patches), -1, -1)
        return self.encoder(torch.cat([first, self.in_proj(patches)], 1))[:, 0]


class TimestepEmbedding(nn.Module):
    def __init__(self, hidden: int):
        super().__init__()
        self.linear_1 = nn.Linear(hidden, hidden)
        self.linear_2 = nn.Linear(hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(functional.silu(self.linear_1(x)))


class LocalDiT(nn.Module):
    def __init__(self, config: VoxCPM2Config):
        super().__init__()
        sizes, latents = config.local_dit_config, config.feat_dim
        hidden = sizes.hidden_size
        self.in_proj = nn.Linear(latents, hidden)
        self.cond_proj = nn.Linear(latents, hidden)
        self.out_proj = nn.Linear(hidden, latents)
        self.time_mlp = TimestepEmbedding(hidden)
        self.delta_time_mlp = TimestepEmbedding(hidden)
        self.decoder = Transformer(sizes, 3 + 2 * config.patch_size, causal=False)
        half = hidden // 2
        decay = torch.exp(-math.log(10_000) / (half - 1) * torch.arange(half))
        self.register_buffer("frequencies", decay, persistent=False)

    def _sinusoids(self, t: Tensor) -> Tensor:
        angles = 1000 * t[:, None] * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], -1)

    def forward(self, x: Tensor, mu: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        """x (N, P, D), mu (N, 2, H), t (N,), cond (N, P, D) -> velocity (N, P, D)."""
        time = self.time_mlp(self._sinusoids(t))
        time = time + self.delta_time_mlp(self._sinusoids(torch.zeros_like(t)))
        tokens = [mu, time[:, None], self.cond_proj(cond), self.in_proj(x)]
        hidden = self.decoder(torch.cat(tokens, 1))[:, -x.shape[1] :]
        return self.out_proj(hidden)


class ScalarQuantization(nn.Module):
    def __init__(self, hidden: int, latents: int, levels: int):
        super().__init__()
        self.in_proj = nn.Linear(hidden, latents)
        self.out_proj = nn.Linear(latents, hidden)
        self.levels = levels

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.in_proj(x))
        rounded = torch.round(x * self.levels) / self.levels
        return self.out_proj(x + (rounded - x).detach())


class Network(nn.Module):
    def __init__(self, config: VoxCPM2Config):
        super().__init__()
        hidden, condition = config.lm_config.hidden_size, config.dit_config.hidden_dim
        self.base_lm = Transformer(config.base_config, config.context_length)
        self.residual_lm = Transformer(config.residual_config, config.context_length)
        self.feat_encoder = LocalEncoder(config)
        self.feat_decoder = nn.ModuleDict({"estimator": LocalDiT(config)})
        self.fsq_layer = ScalarQuantization(
            hidden, config.scalar_quantization_latent_dim, config.scalar_quantization_scale
        )
        self.enc_to_lm_proj = nn.Linear(config.encoder_config.hidden_dim, hidden)
        self.lm_to_dit_proj = nn.Linear(hidden, condition)
        self.res_to_dit_proj = nn.Linear(hidden, condition)
        self.fusion_concat_proj = nn.Linear(2 * hidden, hidden)
        self.stop_proj = nn.Linear(hidden, hidden)
        self.stop_head = nn.Linear(hidden, 2, bias=False)

    def embed_patches(self, patches: Tensor) -> Tensor:
        """(N, P, D) -> (N, H)."""
        return self.enc_to_lm_proj(self.feat_encoder(patches))

    def forward(self, tokens: Tensor, is_audio: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states of the base and the residual language model, (B, T, H) each.

        tokens, is_audio (B, T); patches (N, P, D) of the audio positions, row after row.
        """
        embedded = self.base_lm.embed_tokens(tokens)
        audio = torch.zeros_like(embedded)
        audio[is_audio] = self.embed_patches(patches).to(audio.dtype)
        where = is_audio[..., None]
        hidden = self.base_lm(torch.where(where, audio, embedded))
        hidden = torch.where(where, self.fsq_layer(hidden), hidden)
        residual = self.residual_lm(self.fusion_concat_proj(torch.cat([hidden, audio], -1)))
        return hidden, residual

    def conditions(self, hidden: Tensor, residual: Tensor) -> Tensor:
        """(N, H) each -> the diffusion transformer's first two tokens (N, 2, condition)."""
        return torch.stack([self.lm_to_dit_proj(hidden), self.res_to_dit_proj(residual)], 1)

    def velocity(self, noisy: Tensor, mu: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        """See `LocalDiT`."""
        return self.feat_decoder["estimator"](noisy, mu, t, cond)

    def stop_logits(self, hidden: Tensor) -> Tensor:
        """(N, H) -> (N, 2): continue, or stop after this patch."""
        return self.stop_head(functional.silu(self.stop_proj(hidden)))


@torch.no_grad()
def draw_weights(module: nn.Module) -> None:
    """Random weights of unit gain; those that add to a residual stream are smaller."""
    for stack in module.modules():
        if isinstance(stack, Transformer):
            for layer in stack.layers:
                layer.residual_gain = (2 * len(stack.layers)) ** -0.5
    for each in module.modules():
        if isinstance(each, nn.Linear):
            each.weight.normal_(0, each.in_features**-0.5)
            if each.bias is not None:
                each.bias.zero_()
        elif isinstance(each, nn.Embedding):
            each.weight.normal_()
        elif isinstance(each, LocalEncoder):
            each.special_token.normal_()
    for each in module.modules():
        if isinstance(each, DecoderLayer):
            each.self_attn.o_proj.weight.mul_(each.residual_gain)
            each.mlp.down_proj.weight.mul_(each.residual_gain)
