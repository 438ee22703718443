"""VibeVoice's network: tokens and latents -> hidden states -> the next token, the next latent.

Upstream: vibevoice 0.0.1, modular/modeling_vibevoice_inference.py.
"""

from __future__ import annotations

from functools import partial

import mlx.core as mx
import mlx.nn as nn

from ...layers.compiled import CompiledFunctions
from ...layers.fused_linear import Evaluate
from ...layers.transformer import Transformer
from ..family import Network
from .codec import AcousticTokenizer, SemanticTokenizer, Stack, State
from .config import SAMPLE_RATE, VibeVoiceConfig
from .connectors import SpeechConnector
from .family import FAMILY
from .head import DiffusionHead
from .solver import Solver


class VibeVoiceNetwork(Network):
    family = FAMILY

    def __init__(self, config: VibeVoiceConfig):
        super().__init__()
        self.config = config
        hidden, latents = config.decoder.hidden_size, config.acoustic.latent_dim
        self.language_model = Transformer(config.decoder, config.positions)
        if not config.decoder.tie_word_embeddings:
            self.lm_head = nn.Linear(hidden, config.decoder.vocab_size, bias=False)
        self.acoustic_tokenizer = AcousticTokenizer(config.acoustic)
        self.semantic_tokenizer = SemanticTokenizer(config.semantic)
        self.acoustic_connector = SpeechConnector(latents, hidden)
        self.semantic_connector = SpeechConnector(config.semantic.latent_dim, hidden)
        self.prediction_head = DiffusionHead(config.head)
        self.speech_scaling_factor = mx.array(1.0)
        self.speech_bias_factor = mx.array(0.0)
        self.compiled = CompiledFunctions()

    @property
    def sample_rate(self) -> int:
        """Sample rate of the speech in Hz."""
        return SAMPLE_RATE

    @property
    def hop(self) -> int:
        """Samples of a frame."""
        return self.config.acoustic.hop

    @property
    def patch_samples(self) -> int:
        """Samples of a frame, by the name that all families share."""
        return self.hop

    @property
    def dtype(self) -> mx.Dtype:
        """Type of the activations: that of the norms, which are never quantised."""
        return self.language_model.norm.weight.dtype

    @property
    def _codecs(self) -> tuple[Stack, Stack, Stack]:
        acoustic, semantic = self.acoustic_tokenizer, self.semantic_tokenizer
        return acoustic.encoder, acoustic.decoder, semantic.encoder

    def prepare(self, evaluate: Evaluate) -> None:
        """Fuses projections of the same input."""
        self.discard_prepared()
        self.language_model.fuse(evaluate)
        self.prediction_head.fuse(evaluate)

    def discard_prepared(self) -> None:
        """Undoes `prepare`, see `Network.discard_prepared`."""
        self.language_model.unfuse()
        self.prediction_head.unfuse()
        self.compiled.clear()
        for stack in self._codecs:
            stack.compiled.clear()

    def features(self, latents: mx.array) -> mx.array:
        """Latents as the encoder gives them (..., D) -> as the model knows them."""
        return (latents + self.speech_bias_factor) * self.speech_scaling_factor

    def latents(self, features: mx.array) -> mx.array:
        """Undoes `features`."""
        return features / self.speech_scaling_factor - self.speech_bias_factor

    def embed(self, tokens: mx.array, is_voice: mx.array, voices: mx.array | None) -> mx.array:
        """tokens and is_voice (T,) -> embeddings (T, H).

        voices (N, H): those of the N positions where is_voice, in order; None if there are none.
        """
        text = self.language_model.embed(tokens[None])[0]
        if voices is None:
            return text
        order = mx.maximum(mx.cumsum(is_voice.astype(mx.int32)) - 1, 0)
        return mx.where(is_voice[:, None], voices[order].astype(text.dtype), text)

    def token_logits(self, hidden: mx.array) -> mx.array:
        """hidden (..., H) -> logits of all tokens (..., V), float32."""
        head = self.lm_head if "lm_head" in self else self.language_model.embed_tokens.as_linear
        return head(hidden).astype(mx.float32)

    def head_rows(self, tokens: list[int]) -> mx.array:
        """The output head's rows of these tokens (N, H), float32."""
        chosen = mx.array(tokens)
        if "lm_head" not in self:
            return self.language_model.embed_tokens(chosen).astype(mx.float32)
        head = self.lm_head
        rows = head.weight[chosen]
        if isinstance(head, nn.QuantizedLinear):
            settings = {"group_size": head.group_size, "bits": head.bits, "mode": head.mode}
            biases = head.get("biases")
            biases = None if biases is None else biases[chosen]
            rows = mx.dequantize(rows, head.scales[chosen], biases, **settings)
        return rows.astype(mx.float32)

    def time_vectors(self, solver: Solver) -> mx.array:
        """The diffusion head's embedding of each step's time (S, H)."""
        return self.prediction_head.t_embedder(mx.array(solver.timesteps, dtype=mx.float32))

    def sample_latent(
        self,
        conditions: mx.array,
        noise: mx.array,
        solver: Solver,
        times: mx.array,
        cfg_value: mx.array,
    ) -> mx.array:
        """Hidden states that chose a frame -> its features (B, D), float32.

        conditions (2, B, H): of the positive and the negative branch, or (1, B, H) without
        guidance; noise (B, D); times: of `time_vectors`; cfg_value: an array of one number.
        """
        solve = partial(self._solve, solver)
        return self.compiled(len(solver.steps), solve, conditions, noise, times, cfg_value)

    def _solve(
        self,
        solver: Solver,
        conditions: mx.array,
        noise: mx.array,
        times: mx.array,
        cfg_value: mx.array,
    ) -> mx.array:
        branches, rows = conditions.shape[:2]
        modulations = self.prediction_head.modulations(times, conditions.flatten(0, 1))
        split = [mx.split(each, len(solver.steps)) for each in modulations]

        def velocity(x: mx.array, step: int) -> mx.array:
            each = [layer[step].squeeze(0) for layer in split]
            v = self.prediction_head.velocity(x, each)
            return v if branches == 1 else v[rows:] + cfg_value * (v[:rows] - v[rows:])

        return solver.solve(noise, velocity)[-1]

    def speak_frame(
        self, features: mx.array, decoder: State, encoder: State
    ) -> tuple[mx.array, mx.array]:
        """features (B, D) -> audio (B, hop) and the embedding of the next input (B, H).

        decoder, encoder: states of the acoustic decoder and of the semantic encoder.
        """
        audio = self.acoustic_tokenizer.decode(self.latents(features)[:, None], decoder)
        semantic = self.semantic_tokenizer.encode(audio, encoder)
        embedding = self.acoustic_connector(features) + self.semantic_connector(semantic[:, 0])
        return audio.squeeze(-1), embedding
