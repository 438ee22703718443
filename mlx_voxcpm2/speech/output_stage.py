"""Last stage of speech, after the guards: silence is cut off, the speed changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..audio.stretching import Stretcher
from .guards import Trimmer, guard_notes
from .options import GenerationOptions


@dataclass(frozen=True, eq=False)
class StagedAudio:
    """Audio that is final."""

    audio: Any
    """float32 (samples,), of MLX or numpy."""
    unstretched: np.ndarray | None = None
    """The speech since the last output, at the model's speed; None at speed 1."""


class OutputStage:
    """Trims and stretches the speech of one request, chunk by chunk."""

    def __init__(self, options: GenerationOptions, sample_rate: int):
        self.options = options
        self.trimmer = Trimmer(sample_rate) if options.trim_silence else None
        self.stretcher = Stretcher(sample_rate, options.speed) if options.speed != 1 else None
        self._pending: list[np.ndarray] = []
        """Speech that was stretched, but gave no output yet."""

    def apply(self, chunk: Any, is_last: bool) -> StagedAudio:
        """chunk: (samples,), of MLX or numpy; without a stage it is returned as it is.

        The output may be empty unless it is the last.
        """
        if self.trimmer is not None:
            chunk = self.trimmer.apply(np.array(chunk), is_last)
        if self.stretcher is None:
            return StagedAudio(chunk)
        chunk = np.array(chunk)
        self._pending.append(chunk)
        audio = self.stretcher.apply(chunk, is_last)
        if not len(audio):
            return StagedAudio(audio)
        unstretched, self._pending = np.concatenate(self._pending), []
        return StagedAudio(audio, unstretched)

    def guard_notes(self, finish_reason: str) -> tuple[str, ...]:
        """Descriptions of what the guards changed."""
        return guard_notes(self.options, finish_reason, self.trimmer)
