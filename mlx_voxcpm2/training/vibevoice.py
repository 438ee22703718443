"""Fine-tuning of VibeVoice. Losses: see `models.vibevoice.loss`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType

import mlx.core as mx
import numpy as np

from ..audio.reading import read_audio
from ..models.vibevoice.config import SAMPLE_RATE
from ..models.vibevoice.family import FAMILY
from ..models.vibevoice.lora import DialogueLoRASettings
from ..models.vibevoice.loss import MUL, Batch, compute_losses
from ..models.vibevoice.solver import TRAIN_STEPS
from ..speech.results import GenerationResult
from ..vibevoice.examples import Example, drawn_spread, make_batch
from ..vibevoice.loading import load, read_vibevoice
from ..vibevoice.model import VibeVoice
from ..vibevoice.voices import level
from ..weights.precision import Precision
from .dialogue_manifest import DialogueInspection
from .latents import LatentCache, fingerprint_of
from .manifest_line import Line
from .options import TrainingOptions
from .recipe import Arrays, Recipe
from .sequences import padding_multiple

# Cache version. Change it when latents change.
_VERSION = "vibevoice, levelled, 1"


class DialogueLatentCache(LatentCache):
    """Acoustic means and semantic latents of clips, side by side (N, D + S).

    Clips are levelled, as voices are when the model speaks.
    """

    tensor = "latents"

    def _start_of_key(self):
        acoustic, semantic = self._model.acoustic_tokenizer, self._model.semantic_tokenizer
        return fingerprint_of(_VERSION, acoustic.encoder, semantic.encoder)

    @property
    def _row_shape(self) -> tuple[int, ...]:
        config = self._model.config
        return (config.acoustic.latent_dim + config.semantic.latent_dim,)

    def _encode(self, path: str | os.PathLike) -> np.ndarray:
        encoder = self._model.voice_encoder
        samples = np.array(level(read_audio(path, SAMPLE_RATE, str(path))))
        return np.concatenate([encoder.mean(samples), encoder.semantic(samples)], axis=-1)


class VibeVoiceRecipe(Recipe):
    family = FAMILY
    lora = DialogueLoRASettings
    losses = MappingProxyType({"diff": 1.4, "ce": 0.04})  # a community recipe's
    inspection = DialogueInspection
    cache = DialogueLatentCache

    def check(self, options: TrainingOptions) -> None:
        super().check(options)
        if options.condition_dropout != TrainingOptions.condition_dropout:
            raise ValueError(
                "condition_dropout: VibeVoice needs none, its guidance has a condition of its own; "
                "leave it out"
            )

    def read_sizes(self, source: Path) -> VibeVoice:
        return read_vibevoice(source, Precision(mx.float32)).model

    def load(self, source: Path, dtype: str) -> VibeVoice:
        return load(source, dtype)  # type: ignore[arg-type]

    def freeze_codec(self, model: VibeVoice) -> None:
        model.acoustic_tokenizer.freeze()
        model.semantic_tokenizer.freeze()
        model.freeze(keys=["speech_scaling_factor", "speech_bias_factor"], recurse=False)

    def examples(
        self, lines: Sequence[Line], model: VibeVoice, latents: dict[Path, np.ndarray]
    ) -> list[Example]:
        size, found = model.config.acoustic.latent_dim, []
        for line in lines:
            clips = [latents[clip] for clip in (*line.voices, line.audio)]
            prompt = model.prompt(line.text, [len(clip) for clip in clips[:-1]])
            means, semantic = zip(*(np.split(clip, [size], axis=-1) for clip in clips), strict=True)
            found.append(Example(prompt, list(means), list(semantic), model.legal))
        return found

    def inputs(
        self,
        model: VibeVoice,
        examples: Sequence[Example],
        generators: Sequence[np.random.Generator],
        options: TrainingOptions,
    ) -> Arrays:
        size, spreads, noises, times = model.config.acoustic.latent_dim, [], [], []
        for example, random in zip(examples, generators, strict=True):
            std = random.standard_normal(example.clips)
            noise = [random.standard_normal(mean.shape) for mean in example.means]
            spreads.append(drawn_spread(example, std, noise))
            noises.append(random.standard_normal((example.targets * MUL, size)))
            times.append(random.integers(0, TRAIN_STEPS, example.targets * MUL))
        longest = max(example.positions for example in examples)
        batch = make_batch(examples, spreads, padding_multiple(longest))
        noise, timesteps = np.concatenate(noises), np.concatenate(times)
        missing = len(batch.targets) * MUL - len(noise)
        return {
            **vars(batch),
            "noise": mx.array(np.pad(noise, ((0, missing), (0, 0))).astype(np.float32)),
            "timesteps": mx.array(np.pad(timesteps, (0, missing)).astype(np.int32)),
        }

    def compute_losses(
        self, model: VibeVoice, inputs: Arrays, counts: mx.array
    ) -> tuple[mx.array, mx.array]:
        rows = dict(inputs)
        noise, timesteps = rows.pop("noise"), rows.pop("timesteps")
        found = compute_losses(model, Batch(**rows), noise, timesteps, counts=counts)
        return found.diffusion, found.cross_entropy

    def speak(self, model: VibeVoice, line: Line, seed: int) -> GenerationResult:
        return model.speak(line.text, list(line.voices), seed=seed)
