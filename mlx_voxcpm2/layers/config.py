"""Sizes of a transformer stack.

Fields, names and defaults follow upstream's `MiniCPM4Config`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..schema import require, require_positive


@dataclass(frozen=True)
class RopeScaling:
    long_factor: tuple[float, ...]
    short_factor: tuple[float, ...]
    original_max_position_embeddings: int
    type: str = "longrope"

    def __post_init__(self):
        require(self.type == "longrope", "rope_scaling.type", self.type, "'longrope'")
        require_positive(self, "original_max_position_embeddings")


@dataclass(frozen=True)
class TransformerConfig:
    """A MiniCPM-4 stack: the language model's entry, and what the other stacks derive from it."""

    hidden_size: int
    intermediate_size: int
    max_position_embeddings: int
    num_attention_heads: int
    num_hidden_layers: int
    num_key_value_heads: int
    rms_norm_eps: float
    rope_scaling: RopeScaling
    vocab_size: int
    scale_emb: float
    dim_model_base: int
    scale_depth: float
    rope_theta: float
    bos_token_id: int
    eos_token_id: int
    use_mup: bool = True
    kv_channels: int | None = None
    no_rope: bool = False

    def __post_init__(self):
        require_positive(
            self, "hidden_size", "intermediate_size", "max_position_embeddings",
            "num_attention_heads", "num_hidden_layers", "num_key_value_heads", "rope_theta",
        )  # fmt: skip
        if self.kv_channels is not None:
            require_positive(self, "kv_channels")
        require(
            self.num_attention_heads % self.num_key_value_heads == 0,
            "num_attention_heads", self.num_attention_heads,
            f"a multiple of num_key_value_heads ({self.num_key_value_heads})",
        )  # fmt: skip
        if not self.no_rope:
            self._check_rope()

    def _check_rope(self):
        require(self.head_dim % 2 == 0, "head size", self.head_dim, "even")
        for name in ("long_factor", "short_factor"):
            length = len(getattr(self.rope_scaling, name))
            require(
                length == self.head_dim // 2,
                f"rope_scaling.{name}", f"{length} values",
                f"{self.head_dim // 2} values, one per pair of a head's {self.head_dim} channels",
            )  # fmt: skip
        require(
            self.rope_scaling.original_max_position_embeddings > 1 and self._rope_scale_squared > 0,
            "max_position_embeddings", self.max_position_embeddings,
            "in proportion to rope_scaling.original_max_position_embeddings",
        )  # fmt: skip

    @property
    def head_dim(self) -> int:
        return self.kv_channels or self.hidden_size // self.num_attention_heads

    @property
    def _rope_scale_squared(self) -> float:
        original = self.rope_scaling.original_max_position_embeddings
        return 1 + math.log(self.max_position_embeddings / original) / math.log(original)

    @property
    def rope_scale(self) -> float:
        """The factor on cos and sin, `MiniCPMLongRoPE.scaling_factor`."""
        return math.sqrt(self._rope_scale_squared)

    @property
    def rope_factors(self) -> tuple[float, ...]:
        """Upstream chooses once, by the model's longest context and not by the sequence."""
        longer = self.max_position_embeddings > self.rope_scaling.original_max_position_embeddings
        return self.rope_scaling.long_factor if longer else self.rope_scaling.short_factor

    @property
    def embedding_scale(self) -> float:
        return self.scale_emb if self.use_mup else 1.0

    @property
    def residual_scale(self) -> float:
        return self.scale_depth / math.sqrt(self.num_hidden_layers) if self.use_mup else 1.0
