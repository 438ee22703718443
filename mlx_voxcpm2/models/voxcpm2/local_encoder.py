"""A patch of latents -> one embedding. Upstream: modules/locenc/local_encoder.py."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from ...layers.compiled import CompiledFunctions
from ...layers.config import TransformerConfig
from ...layers.transformer import Transformer


class LocalEncoder(nn.Module):
    def __init__(self, config: TransformerConfig, latents: int, patch_size: int):
        super().__init__()
        self.special_token = mx.zeros((1, 1, 1, config.hidden_size))
        self.in_proj = nn.Linear(latents, config.hidden_size)
        self.encoder = Transformer(config, positions=patch_size + 1)
        self.compiled = CompiledFunctions()

    def __call__(self, patches: mx.array) -> mx.array:
        """patches (B, T, P, D) -> embeddings (B, T, H)."""
        flat = patches.reshape(-1, *patches.shape[2:])
        # Every step of generation encodes one patch, but each clip another number of them.
        if patches.shape[1] == 1:
            embedded = self.compiled("patch", self._embed, flat)
        else:
            embedded = self._embed(flat)
        return embedded.reshape(*patches.shape[:2], -1)

    def _embed(self, patches: mx.array) -> mx.array:
        """patches (B, P, D) -> embeddings (B, 1, H)."""
        x = self.in_proj(patches)
        first = mx.broadcast_to(self.special_token.squeeze(0), (len(x), 1, x.shape[-1]))
        x = mx.concatenate([first, x], axis=1)
        return self.encoder(x, causal=False, output_positions=slice(1))
