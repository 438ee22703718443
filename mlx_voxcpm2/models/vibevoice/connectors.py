"""Projections of acoustic and semantic latents into the language model's space.

Upstream: vibevoice 0.0.1, modular/modeling_vibevoice.py (`SpeechConnector`).
"""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from ...layers import kernels
from ...layers.transformer import RMSNorm


class SpeechConnector(nn.Module):
    """Two linear layers with a norm, and no activation, between them."""

    def __init__(self, latents: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(latents, hidden)
        self.norm = RMSNorm(hidden, eps=1e-6)
        self.fc2 = nn.Linear(hidden, hidden)

    def __call__(self, x: mx.array) -> mx.array:
        """x (..., D) -> (..., H), in the weights' type."""
        flat = x.astype(self.norm.weight.dtype).reshape(-1, x.shape[-1])
        hidden = kernels.linear(self.fc2, self.norm(kernels.linear(self.fc1, flat)))
        return hidden.reshape(*x.shape[:-1], -1)
