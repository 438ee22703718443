"""Sizes and options of a transformer stack, with the names of Hugging Face's config.json."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..schema import LARGEST_NUMBER, LARGEST_SIZE, MOST_LAYERS, require, require_positive


@dataclass(frozen=True)
class RopeScaling:
    """LongRoPE: a factor per frequency, one set for short contexts and one for long ones.

    Ding et al. 2024, arXiv 2402.13753.
    """

    long_factor: tuple[float, ...]
    short_factor: tuple[float, ...]
    original_max_position_embeddings: int
    type: str = "longrope"

    def __post_init__(self):
        require(self.type == "longrope", "rope_scaling.type", self.type, "'longrope'")
        require_positive(self, "original_max_position_embeddings")


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes and options of one stack. Raises ValueError for sizes that do not fit each other."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    max_position_embeddings: int
    rms_norm_eps: float
    vocab_size: int = 0
    """Tokens with an embedding; 0 for a stack that is given embeddings only."""
    head_dim: int | None = None
    """Channels per head; by default hidden_size / num_attention_heads."""
    qkv_bias: bool = False
    """Whether the projections to queries, keys and values have biases, as Qwen2's."""
    rope_theta: float | None = 10000.0
    """Base of the rotary frequencies; None for attention without positions."""
    rope_scaling: RopeScaling | None = None
    """LongRoPE's factors; None for plain RoPE."""
    tie_word_embeddings: bool = True
    """Whether `CausalLM` computes its logits with the embedding matrix."""
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    """Factor on what each attention and MLP adds to the residual stream."""

    def __post_init__(self):
        require_positive(
            self,
            *("hidden_size", "intermediate_size", "num_attention_heads"),
            *("num_key_value_heads", "max_position_embeddings"),
        )
        require_positive(self, "num_hidden_layers", most=MOST_LAYERS)
        sizes_fit = 0 <= self.vocab_size <= LARGEST_SIZE
        require(sizes_fit, "vocab_size", self.vocab_size, f"from 0 to {LARGEST_SIZE}")
        if self.head_dim is not None:
            require_positive(self, "head_dim")
        multiple = f"a multiple of num_key_value_heads ({self.num_key_value_heads})"
        fits = self.num_attention_heads % self.num_key_value_heads == 0
        require(fits, "num_attention_heads", self.num_attention_heads, multiple)
        if self.rope_theta is not None:
            require_positive(self, "rope_theta", most=LARGEST_NUMBER)
            require(self.head_size % 2 == 0, "head size", self.head_size, "even")
            if self.rope_scaling is not None:
                self._check_rope_scaling(self.rope_scaling)

    def _check_rope_scaling(self, scaling: RopeScaling) -> None:
        pairs = self.head_size // 2
        wanted = f"{pairs} values, one per pair of a head's {self.head_size} channels"
        for name in ("long_factor", "short_factor"):
            length = len(getattr(scaling, name))
            require(length == pairs, f"rope_scaling.{name}", f"{length} values", wanted)
        original = scaling.original_max_position_embeddings
        require(
            original > 1 and self._rope_scale_squared > 0,
            "max_position_embeddings",
            self.max_position_embeddings,
            "in proportion to rope_scaling.original_max_position_embeddings",
        )

    @property
    def head_size(self) -> int:
        """Channels of a head."""
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def _rope_scale_squared(self) -> float:
        if self.rope_scaling is None:
            return 1.0
        original = self.rope_scaling.original_max_position_embeddings
        return 1 + math.log(self.max_position_embeddings / original) / math.log(original)

    @property
    def attention_scale(self) -> float:
        """Factor on the product of query and key.

        LongRoPE's factor on cosines and sines, upstream's `MiniCPMLongRoPE.scaling_factor`, occurs
        twice in that product.
        """
        rope_scale_squared = 1.0 if self.rope_theta is None else self._rope_scale_squared
        return rope_scale_squared * self.head_size**-0.5

    @property
    def rope_factors(self) -> tuple[float, ...]:
        """Factor on the period of each frequency, (head_size / 2,).

        LongRoPE's are chosen once, by the model's longest context and not by the sequence's length.
        """
        scaling = self.rope_scaling
        if scaling is None:
            return (1.0,) * (self.head_size // 2)
        longer = self.max_position_embeddings > scaling.original_max_position_embeddings
        return scaling.long_factor if longer else scaling.short_factor
