"""Rotary positions with a factor per frequency. LongRoPE: Ding et al. 2024, arXiv 2402.13753.

Upstream: modules/minicpm4/model.py (`MiniCPMLongRoPE`). Its factor on cos and sin turns up twice in
a product of query and key; attention takes it into its own scale.
"""

from __future__ import annotations

from functools import partial

import mlx.core as mx
import numpy as np

from .backend import has_fast_rope
from .config import TransformerConfig


@partial(mx.compile, shapeless=True)
def _turn(
    first: mx.array, second: mx.array, cos: mx.array, sin: mx.array
) -> tuple[mx.array, mx.array]:
    return first * cos - second * sin, second * cos + first * sin


class LongRoPE:
    """For up to `positions` positions."""

    def __init__(self, config: TransformerConfig, positions: int):
        self.size = config.head_dim
        exponents = np.arange(0, self.size, 2, dtype=np.float32) / np.float32(self.size)
        powers = np.power(np.float32(config.rope_theta), exponents)
        factors = np.array(config.rope_factors, dtype=np.float32)
        self.periods = mx.array(factors * powers)
        # Rounded in upstream's order: at position 1000 another order differs by 1e-4.
        places = np.arange(positions, dtype=np.float32)
        angles = np.outer(places, np.float32(1) / factors) * (np.float32(1) / powers)
        self.cos, self.sin = mx.array(np.cos(angles)), mx.array(np.sin(angles))

    def __call__(self, x: mx.array, start: int | mx.array) -> mx.array:
        """x (B, heads, L, head size), its first position being `start` -> turned, in its type.

        start (B,) where it differs between rows. What fills a row up on its left is before 0.
        """
        if has_fast_rope(x.dtype):
            return mx.fast.rope(
                x, self.size, traditional=False, base=None, scale=1.0, offset=start,
                freqs=self.periods,
            )  # fmt: skip
        if isinstance(start, int):
            places = slice(start, start + x.shape[2])
        else:
            places = mx.maximum(start[:, None, None] + mx.arange(x.shape[2]), 0)
        cos, sin = self.cos[places], self.sin[places]
        halves = _turn(*mx.split(x.astype(mx.float32), 2, axis=-1), cos, sin)
        return mx.concatenate(halves, axis=-1).astype(x.dtype)
