"""Sizes and options of VibeVoice, as frozen dataclasses that both layouts of config.json fill."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...layers.config import TransformerConfig
from ...schema import LARGEST_NUMBER, MOST_LAYERS, require, require_positive, require_sizes

SAMPLE_RATE = 24000
"""Of speech and of voices, in Hz."""


@dataclass(frozen=True)
class CodecConfig:
    """A codec of causal convolutions; channels double with each ratio of the encoder.

    The decoder is its mirror image. Raises ValueError for sizes out of range.
    """

    latent_dim: int
    """Numbers of a latent, D."""
    filters: int = 32
    """Channels of the encoder's first stage."""
    ratios: tuple[int, ...] = (2, 2, 4, 5, 5, 8)
    """Strides in the order in which the encoder applies them."""
    depths: tuple[int, ...] = (3, 3, 3, 3, 3, 3, 8)
    """Blocks in each stage of the encoder, one stage more than strides."""
    decoder_depths: tuple[int, ...] | None = None
    """Blocks in each stage of the decoder, in its order; None for the encoder's reversed."""
    kernel: int = 7
    eps: float = 1e-5

    def __post_init__(self):
        require_positive(self, "latent_dim", "filters")
        require_positive(self, "eps", most=1)
        require_positive(self, "kernel", most=1000)
        require_sizes("ratios", self.ratios, most=1000, count=12)
        for name in ("depths", "decoder_depths"):
            depths = getattr(self, name)
            if depths is not None:
                require_sizes(name, depths, most=MOST_LAYERS, count=13)
                wanted = f"{len(self.ratios) + 1} numbers, one more than there are ratios"
                require(len(depths) == len(self.ratios) + 1, name, depths, wanted)

    @property
    def hop(self) -> int:
        """Samples per latent."""
        return math.prod(self.ratios)

    @property
    def mirrored_depths(self) -> tuple[int, ...]:
        """Blocks in each stage of the decoder, in its order."""
        return self.depths[::-1] if self.decoder_depths is None else self.decoder_depths


@dataclass(frozen=True)
class HeadConfig:
    """The diffusion head: sizes of its layers and of its time embedding."""

    latent_dim: int
    hidden_size: int
    intermediate_size: int
    layers: int = 4
    eps: float = 1e-5
    frequency_size: int = 256
    """Cosines and sines of a time, together."""
    max_period: float = 10000.0

    def __post_init__(self):
        require_positive(self, "latent_dim", "hidden_size", "intermediate_size")
        require_positive(self, "layers", most=MOST_LAYERS)
        require_positive(self, "eps", most=1)
        require_positive(self, "max_period", most=LARGEST_NUMBER)
        size = self.frequency_size
        is_even = size > 0 and size % 2 == 0 and size <= 2**16
        require(is_even, "frequency_embedding_size", size, "a positive even number")


@dataclass(frozen=True)
class VibeVoiceConfig:
    """The whole system: language model, two codecs, their connectors and the diffusion head."""

    decoder: TransformerConfig
    acoustic: CodecConfig
    semantic: CodecConfig
    head: HeadConfig
    latent_std: float = 0.625
    """Largest usual spread of a sampled voice latent around its mean: 0.5 / 0.8."""
    tokenizer_name: str = ""
    """Original language model, whose tokenizer the checkpoint uses; "" if it is not named."""
    dtype: str = "bfloat16"

    def __post_init__(self):
        same = self.acoustic.hop == self.semantic.hop
        wanted = f"ratios whose product is {self.acoustic.hop}, as the acoustic tokenizer's"
        require(same, "the semantic tokenizer's ratios", self.semantic.ratios, wanted)
        require(
            self.head.latent_dim == self.acoustic.latent_dim,
            "the diffusion head's latent size",
            self.head.latent_dim,
            f"{self.acoustic.latent_dim}, as the acoustic tokenizer's",
        )
        require(
            self.head.hidden_size == self.decoder.hidden_size,
            "the diffusion head's hidden size",
            self.head.hidden_size,
            f"{self.decoder.hidden_size}, as the language model's",
        )
        wanted = "a number from 0 to 100"
        require(0 <= self.latent_std <= 100, "vae_std", self.latent_std, wanted)
        require(self.decoder.vocab_size > 0, "vocab_size", self.decoder.vocab_size, "positive")

    @property
    def positions(self) -> int:
        """Number of positions of the language model."""
        return self.decoder.max_position_embeddings
