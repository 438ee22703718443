"""The velocity of a noisy patch. Upstream: modules/locdit/local_dit_v2.py."""

from __future__ import annotations

import math

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ...layers import kernels
from ...layers.config import TransformerConfig
from ...layers.transformer import Transformer


class TimestepEmbedding(nn.Module):
    def __init__(self, hidden: int):
        super().__init__()
        self.linear_1 = nn.Linear(hidden, hidden)
        self.linear_2 = nn.Linear(hidden, hidden)

    def __call__(self, x: mx.array) -> mx.array:
        """x (B, H) -> (B, H)."""
        return self.linear_2(kernels.silu(self.linear_1(x)))


class LocalDiT(nn.Module):
    def __init__(self, config: TransformerConfig, latents: int, patch_size: int):
        super().__init__()
        hidden = config.hidden_size
        self.in_proj = nn.Linear(latents, hidden)
        self.cond_proj = nn.Linear(latents, hidden)
        self.out_proj = nn.Linear(hidden, latents)
        self.time_mlp = TimestepEmbedding(hidden)
        self.delta_time_mlp = TimestepEmbedding(hidden)
        # Two tokens from the language models, one for the time, the last patch, the noisy patch.
        self.decoder = Transformer(config, positions=2 + 1 + 2 * patch_size)
        half = hidden // 2
        decay = np.float32(-math.log(10000) / (half - 1))
        exponents = np.arange(half, dtype=np.float32) * decay
        # Correctly rounded: an error in the last place turns the fastest sinusoid by 1e-4.
        self._frequencies = mx.array(np.exp(exponents.astype(np.float64)).astype(np.float32))

    def time_tokens(self, t: mx.array, dt: mx.array) -> mx.array:
        """t, dt (B,) in 0..1, float32 -> tokens (B, H).

        The sinusoids are computed in float32 at any precision: upstream lets bfloat16 round 1000 t.
        """
        dtype = self.decoder.norm.weight.dtype

        def sinusoids(x: mx.array) -> mx.array:
            angles = (1000 * x)[:, None] * self._frequencies
            return mx.concatenate([mx.sin(angles), mx.cos(angles)], axis=-1).astype(dtype)

        return self.time_mlp(sinusoids(t)) + self.delta_time_mlp(sinusoids(dt))

    def velocity(self, x: mx.array, context: mx.array) -> mx.array:
        """x (B, P, D) and the tokens before it, context (..., B, 3 + P, H) -> (..., B, P, D).

        The context is the two tokens of mu, the token of the time and the projected condition. Its
        leading axes are cases of the same x, such as conditional and unconditional.
        """
        noisy = self.in_proj(x)
        noisy = mx.broadcast_to(noisy, (*context.shape[:-2], *noisy.shape[-2:]))
        tokens = mx.concatenate([context, noisy], axis=-2)
        tokens = tokens.reshape(-1, *tokens.shape[-2:])
        last = slice(context.shape[-2], None)
        hidden = self.decoder(tokens, causal=False, output_positions=last)
        return self.out_proj(hidden).reshape(*noisy.shape[:-1], -1)

    def __call__(
        self, x: mx.array, mu: mx.array, t: mx.array, cond: mx.array, dt: mx.array
    ) -> mx.array:
        """x (B, P, D), mu (B, 2 H), t and dt (B,), cond (B, P, D) -> velocity (B, P, D)."""
        mu = mu.reshape(x.shape[0], 2, -1)
        time = self.time_tokens(t, dt)[:, None]
        return self.velocity(x, mx.concatenate([mu, time, self.cond_proj(cond)], axis=1))
