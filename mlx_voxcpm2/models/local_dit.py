"""The velocity of a noisy patch. Upstream: modules/locdit/local_dit_v2.py."""

from __future__ import annotations

import math

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ..config import TransformerConfig
from .minicpm import MiniCPM


class TimestepEmbedding(nn.Module):
    def __init__(self, hidden: int):
        super().__init__()
        self.linear_1 = nn.Linear(hidden, hidden)
        self.linear_2 = nn.Linear(hidden, hidden)

    def __call__(self, x: mx.array) -> mx.array:
        """x (B, H) -> (B, H)."""
        return self.linear_2(nn.silu(self.linear_1(x)))


class LocalDiT(nn.Module):
    def __init__(self, config: TransformerConfig, latents: int, patch_size: int):
        super().__init__()
        hidden = config.hidden_size
        self.in_proj = nn.Linear(latents, hidden)
        self.cond_proj = nn.Linear(latents, hidden)
        self.out_proj = nn.Linear(hidden, latents)
        self.time_mlp = TimestepEmbedding(hidden)
        self.delta_time_mlp = TimestepEmbedding(hidden)
        # Two tokens from the language models, one for the time, the patch before, the noisy one.
        self.decoder = MiniCPM(config, positions=2 + 1 + 2 * patch_size)
        half = hidden // 2
        decay = np.float32(-math.log(10000) / (half - 1))
        exponents = np.arange(half, dtype=np.float32) * decay
        # Correctly rounded: an error in the last place turns the fastest sinusoid by 1e-4.
        self._frequencies = mx.array(np.exp(exponents.astype(np.float64)).astype(np.float32))

    def time_tokens(self, t: mx.array, dt: mx.array) -> mx.array:
        """t, dt (B,) in 0..1, float32 -> tokens (B, H).

        The sinusoids are computed in float32 at any precision: upstream lets bfloat16 round 1000 t.
        """
        dtype = self.out_proj.bias.dtype

        def sinusoids(x: mx.array) -> mx.array:
            angles = (1000 * x)[:, None] * self._frequencies
            return mx.concatenate([mx.sin(angles), mx.cos(angles)], axis=-1).astype(dtype)

        return self.time_mlp(sinusoids(t)) + self.delta_time_mlp(sinusoids(dt))

    def velocity(self, x: mx.array, mu: mx.array, time: mx.array, cond: mx.array) -> mx.array:
        """x (B, P, D) and tokens mu (B, 2, H), time (B, 1, H), cond (B, P, H) -> (B, P, D)."""
        tokens = mx.concatenate([mu, time, cond, self.in_proj(x)], axis=1)
        noisy = slice(tokens.shape[1] - x.shape[1], None)
        return self.out_proj(self.decoder(tokens, causal=False, read=noisy))

    def __call__(
        self, x: mx.array, mu: mx.array, t: mx.array, cond: mx.array, dt: mx.array
    ) -> mx.array:
        """x (B, P, D), mu (B, 2 H), t and dt (B,), cond (B, P, D) -> velocity (B, P, D)."""
        batch, hidden = x.shape[0], mu.shape[-1] // 2
        time = self.time_tokens(t, dt)[:, None]
        return self.velocity(x, mu.reshape(batch, 2, hidden), time, self.cond_proj(cond))
