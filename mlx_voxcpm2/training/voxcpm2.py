"""Fine-tuning of VoxCPM2."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType

import mlx.core as mx
import numpy as np

from ..load import load_model, read_voxcpm2
from ..model import VoxCPM2
from ..models.voxcpm2.family import FAMILY
from ..models.voxcpm2.lora import LoRASettings
from ..models.voxcpm2.network import VoxCPM2Model
from ..speech.results import GenerationResult
from ..weights.precision import Precision
from .latents import LatentCache
from .losses import Draws, losses
from .manifest import Inspection
from .manifest_line import Line
from .options import TrainingOptions
from .recipe import Arrays, Recipe
from .sequences import Example, Sequences, padding_multiple

_SEQUENCES = tuple(Sequences.__dataclass_fields__)


class VoxCPM2Recipe(Recipe):
    family = FAMILY
    lora = LoRASettings
    losses = MappingProxyType({"diff": 1.0, "stop": 1.0})
    inspection = Inspection
    cache = LatentCache

    def read_sizes(self, source: Path) -> VoxCPM2:
        return read_voxcpm2(source, Precision(mx.float32)).model

    def load(self, source: Path, dtype: str) -> VoxCPM2:
        return load_model(source, dtype)  # type: ignore[arg-type]

    def freeze_codec(self, model: VoxCPM2) -> None:
        model.audio_vae.freeze()

    def examples(
        self, lines: Sequence[Line], model: VoxCPM2, latents: dict[Path, np.ndarray]
    ) -> list[Example]:
        return [
            Example(
                model.tokenize(line.text),
                latents[line.audio],
                None if line.ref_audio is None else latents[line.ref_audio],
                line.is_prompt,
            )
            for line in lines
        ]

    def inputs(
        self,
        model: VoxCPM2Model,
        examples: Sequence[Example],
        generators: Sequence[np.random.Generator],
        options: TrainingOptions,
    ) -> Arrays:
        longest = max(example.positions for example in examples)
        sequences = Sequences.of(examples, padding_multiple(longest))
        draws = Draws.random(
            generators,
            [example.targets for example in examples],
            sequences.patches.shape[1:],
            options.condition_dropout,
            len(sequences.targets),
            model.config.dit_config.cfm_config.t_scheduler,
        )
        return {**vars(sequences), **vars(draws)}

    def compute_losses(
        self, model: VoxCPM2Model, inputs: Arrays, counts: mx.array
    ) -> tuple[mx.array, mx.array]:
        sequences = Sequences(**{name: inputs[name] for name in _SEQUENCES})
        draws = Draws(**{name: x for name, x in inputs.items() if name not in _SEQUENCES})
        return losses(model, sequences, draws, counts[0])

    def speak(self, model: VoxCPM2, line: Line, seed: int) -> GenerationResult:
        [result] = model.generate(
            line.text, seed=seed, retry_badcase=False, retry_by_ear=False, max_tokens=500
        )
        return result
