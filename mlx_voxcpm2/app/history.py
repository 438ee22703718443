"""Generated speech of a session, newest first."""

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
    from ..long_form.speak import SpokenSegment
    from .inputs import PageRequest

HISTORY_LENGTH = 20


@dataclass(frozen=True, eq=False)
class HistoryEntry:
    """Generated speech, and how it was made."""

    request: PageRequest
    file: Path
    """WAV file."""
    excerpt: SpokenSegment
    """Speech from which a voice is made, without the pause after it."""
    seed: int
    duration: float
    """Seconds of audio."""
    finish_reason: str
    """Reason as in `GenerationResult`, or "stopped" by the visitor."""
    notes: tuple[str, ...] = ()
    """Warnings of the library, and what its guards did."""
    processing_seconds: float = 0.0

    @property
    def label(self) -> str:
        """One line for the list."""
        words = textwrap.shorten(self.request.text, 48, placeholder=" …") or self.request.text[:48]
        stopped = ", stopped" if self.finish_reason == "stopped" else ""
        return f"{words} ({self.request.mode}, {self.duration:.1f} s{stopped}, seed {self.seed})"

    @property
    def report(self) -> str:
        """Lines for the page's status."""
        lines = [
            f"{self.duration:.1f} s of speech in {self.processing_seconds:.1f} s "
            f"({self.request.mode}, seed {self.seed})"
        ]
        if self.finish_reason == "stopped":
            lines.append("You stopped it; this is the speech up to then.")
        if self.finish_reason in ("length", "silence"):
            lines.append("It may be incomplete; try another seed, or a shorter text.")
        return "\n".join([*lines, *map(in_plain_words, self.notes)])


def write_entry(folder: Path, audio: np.ndarray, sample_rate: int, name: str) -> Path:
    """Write audio (samples,) to a WAV file in a new folder; browsers save it by its `name`."""
    file = Path(tempfile.mkdtemp(prefix="speech-", dir=folder)) / f"{name}.wav"
    write_audio(file, audio, sample_rate)
    return file


def with_entry(history: list[HistoryEntry], entry: HistoryEntry) -> list[HistoryEntry]:
    """History with a new entry in front; the files of entries that are dropped are removed."""
    for old in history[HISTORY_LENGTH - 1 :]:
        old.file.unlink(missing_ok=True)
        old.file.parent.rmdir()
    return [entry, *history[: HISTORY_LENGTH - 1]]
