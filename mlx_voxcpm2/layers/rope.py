"""Rotary position embeddings, with a factor per frequency where LongRoPE scales them.

Su et al. 2021, arXiv 2104.09864. Upstream: modules/minicpm4/model.py (`MiniCPMLongRoPE`), whose
factor on cosines and sines is in `TransformerConfig.attention_scale` here.
"""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from . import kernels
from .config import TransformerConfig


class RoPE:
    """Rotation of queries and keys by their positions, of which there are `positions`."""

    def __init__(self, config: TransformerConfig, positions: int):
        self.size = config.head_size
        exponents = np.arange(0, self.size, 2, dtype=np.float32) / np.float32(self.size)
        powers = np.power(np.float32(config.rope_theta), exponents)
        factors = np.array(config.rope_factors, dtype=np.float32)
        self.periods = mx.array(factors * powers)
        # Rounded in upstream's order: at position 1000 another order differs by 1e-4.
        places = np.arange(positions, dtype=np.float32)
        angles = np.outer(places, np.float32(1) / factors) * (np.float32(1) / powers)
        self.table = mx.array(np.cos(angles)), mx.array(np.sin(angles))

    def __call__(self, x: mx.array, start: int | mx.array) -> mx.array:
        """x (B, heads, L, head size), in its type, rotated by the positions from `start` on.

        start: an int, or (B,) if it differs between rows. Padding has negative positions.
        """
        return kernels.rope(x, start, self.periods, self.table)
