"""A patch of latents -> one embedding. Upstream: modules/locenc/local_encoder.py."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from ..config import TransformerConfig
from .minicpm import MiniCPM


class LocalEncoder(nn.Module):
    def __init__(self, config: TransformerConfig, latents: int, patch_size: int):
        super().__init__()
        self.special_token = mx.zeros((1, 1, 1, config.hidden_size))
        self.in_proj = nn.Linear(latents, config.hidden_size)
        self.encoder = MiniCPM(config, positions=patch_size + 1)

    def __call__(self, patches: mx.array) -> mx.array:
        """patches (B, T, P, D) -> embeddings (B, T, H)."""
        batch, steps, length, _ = patches.shape
        x = self.in_proj(patches).reshape(batch * steps, length, -1)
        first = mx.broadcast_to(self.special_token.squeeze(0), (batch * steps, 1, x.shape[-1]))
        x = mx.concatenate([first, x], axis=1)
        return self.encoder(x, causal=False, read=slice(1)).reshape(batch, steps, -1)
