"""What training needs to know of a model family, as an interface that each family implements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import mlx.core as mx
import numpy as np

from ..models.family import Family
from ..models.voxcpm2.lora import LoRASettings
from ..speech.results import GenerationResult
from .latents import LatentCache
from .manifest import Inspection
from .manifest_line import Line
from .options import TrainingOptions

Arrays = dict[str, mx.array]


class Example(Protocol):
    """An example of any family."""

    @property
    def positions(self) -> int:
        """Length of its row."""
        ...

    @property
    def targets(self) -> int:
        """Number of patches or frames to learn."""
        ...

    @property
    def counts(self) -> tuple[int, int]:
        """Number of terms of each loss."""
        ...


class Recipe(ABC):
    """How a family is fine-tuned: its data, its two losses, its adapters."""

    family: ClassVar[Family]
    lora: ClassVar[type[LoRASettings]]
    """Settings of an adapter, with the family's defaults."""
    losses: ClassVar[Mapping[str, float]]
    """Names of the two losses, that of the diffusion first, and their default weights."""
    inspection: ClassVar[type[Inspection]]
    """Reader of the family's manifests."""
    cache: ClassVar[type[LatentCache]]
    """Encodes the family's clips."""

    def check(self, options: TrainingOptions) -> None:
        """Raise ValueError for options that the family does not have."""
        options.lambdas.of(self.losses)

    @abstractmethod
    def read_sizes(self, source: Path) -> Any:
        """Model of a folder, of which only the tokenizer and sizes are used."""

    @abstractmethod
    def load(self, source: Path, dtype: str) -> Any:
        """Model of a folder, with its weights."""

    @abstractmethod
    def freeze_codec(self, model: Any) -> None:
        """Freezes the weights that no run trains."""

    @abstractmethod
    def examples(
        self, lines: Sequence[Line], model: Any, latents: dict[Path, np.ndarray]
    ) -> list[Any]:
        """Examples of the lines, whose clips are encoded in `latents`."""

    @abstractmethod
    def inputs(
        self,
        model: Any,
        examples: Sequence[Any],
        generators: Sequence[np.random.Generator],
        options: TrainingOptions,
    ) -> Arrays:
        """Arrays of a batch; each example's random numbers are from its own generator."""

    @abstractmethod
    def compute_losses(
        self, model: Any, inputs: Arrays, counts: mx.array
    ) -> tuple[mx.array, mx.array]:
        """Sum of each loss's terms, divided by its number in `counts` (2,)."""

    @abstractmethod
    def speak(self, model: Any, line: Line, seed: int) -> GenerationResult:
        """A sample of the model's speech: the text of a line, in its voices."""
