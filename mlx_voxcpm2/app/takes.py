"""What was spoken, and the last of it in each session."""

from __future__ import annotations

import tempfile
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..audio.writing import write_audio
from .inputs import in_plain_words

if TYPE_CHECKING:
    from .inputs import Speech

KEPT = 20


@dataclass(frozen=True, eq=False)
class Sample:
    """Of a take, what its voice is kept from: as it was heard, with its words."""

    audio: np.ndarray
    """float32 (samples,)."""
    text: str
    finish_reason: str | None
    """As in `GenerationResult`."""


@dataclass(frozen=True, eq=False)
class Take:
    """file: a WAV file. reason: why it ended, "stop", "length", "silence" or "stopped" by the
    listener. notes: what the library had to say, and what its guards did."""

    speech: Speech
    file: Path
    sample: Sample
    seed: int
    seconds: float
    reason: str
    notes: tuple[str, ...] = ()
    work: float = 0.0
    """Seconds that it took."""

    @property
    def label(self) -> str:
        """One line for the list of takes."""
        words = textwrap.shorten(self.speech.text, 48, placeholder=" …") or self.speech.text[:48]
        stopped = ", stopped" if self.reason == "stopped" else ""
        return f"{words} ({self.speech.mode}, {self.seconds:.1f} s{stopped}, seed {self.seed})"

    @property
    def report(self) -> str:
        """Lines for the page."""
        lines = [
            f"{self.seconds:.1f} s of speech in {self.work:.1f} s ({self.speech.mode}, seed "
            f"{self.seed})"
        ]
        if self.reason == "stopped":
            lines.append("You stopped it; this is what had been spoken.")
        if self.reason in ("length", "silence"):
            lines.append("It may be incomplete; try another seed, or a shorter text.")
        return "\n".join([*lines, *map(in_plain_words, self.notes)])


def write_take(folder: Path, audio: np.ndarray, sample_rate: int, name: str) -> Path:
    """audio (samples,) -> a WAV file in a folder of its own; its name is what a browser saves."""
    file = Path(tempfile.mkdtemp(prefix="take-", dir=folder)) / f"{name}.wav"
    write_audio(file, audio, sample_rate)
    return file


def with_take(history: list[Take], take: Take) -> list[Take]:
    """The newest first; the file of one that is dropped is removed."""
    for old in history[KEPT - 1 :]:
        old.file.unlink(missing_ok=True)
        old.file.parent.rmdir()
    return [take, *history[: KEPT - 1]]
