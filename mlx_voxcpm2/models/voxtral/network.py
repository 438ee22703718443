"""Voxtral's network: tokens and log-mel spectrograms -> logits of the next token.

Source: transformers, models/voxtral/modeling_voxtral.py. The decoder is `layers.transformer`.
"""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from ...layers.fused_linear import Evaluate
from ...layers.kv_cache import KVCache
from ...layers.transformer import ALL, CausalLM
from ..family import Network
from .config import VoxtralConfig
from .encoder import Encoder, Projector
from .family import FAMILY


class VoxtralModel(Network):
    family = FAMILY

    def __init__(self, config: VoxtralConfig):
        super().__init__()
        self.config = config
        self.audio_tower = Encoder(config.audio_config)
        self.multi_modal_projector = Projector(config)
        self.language_model = CausalLM(config.text_config, config.context_length)

    @property
    def dtype(self) -> mx.Dtype:
        """Type of the activations: that of the norms, which are never quantised."""
        return self.language_model.model.norm.weight.dtype

    def prepare(self, evaluate: Evaluate) -> None:
        """Fuses the decoder's projections of the same input."""
        self.discard_prepared()
        self.language_model.model.fuse(evaluate)

    def discard_prepared(self) -> None:
        """Undoes `prepare`, see `Network.discard_prepared`."""
        self.language_model.model.unfuse()

    def make_cache(self) -> list[KVCache]:
        """An empty cache per layer of the decoder."""
        return self.language_model.model.make_cache()

    def embed_audio(self, mel: mx.array) -> mx.array:
        """mel (chunks, frames, bins) -> embeddings (chunks * frames / 8, H)."""
        return self.multi_modal_projector(self.audio_tower(mel))

    def embed(self, tokens: np.ndarray, audio: mx.array | None = None) -> mx.array:
        """tokens (L,) -> embeddings (1, L, H), with those of the sound in place of `[AUDIO]`.

        audio: embeddings (N, H). Raises ValueError unless there are as many `[AUDIO]` tokens.
        """
        is_audio = tokens == self.config.audio_token_id
        count, given = int(is_audio.sum()), 0 if audio is None else len(audio)
        if count != given:
            raise ValueError(
                f"the tokens have {count} times [AUDIO] for {given} embeddings of sound; give the "
                "prompt of as many chunks"
            )
        text = self.language_model.model.embed(mx.array(tokens)[None])
        if audio is None or not count:
            return text
        order = mx.array(np.maximum(np.cumsum(is_audio) - 1, 0))
        return mx.where(mx.array(is_audio)[None, :, None], audio[order].astype(text.dtype), text)

    def __call__(
        self,
        embeddings: mx.array,
        cache: list[KVCache] | None = None,
        output_positions: slice = ALL,
    ) -> mx.array:
        """embeddings (B, L, H) -> logits (B, R, vocabulary) of the R output positions."""
        decoder = self.language_model
        return decoder.logits(decoder.model(embeddings, cache, output_positions=output_positions))
