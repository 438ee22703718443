"""Takes: speech that was generated for a visitor, with what it was made of."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..audio.encoding import encode_whole
from ..audio.reading import read_channels
from ..long_form.cues import cues_of
from ..long_form.subtitles import subtitles
from .inputs import in_plain_words

if TYPE_CHECKING:
    from .inputs import PageRequest


@dataclass(frozen=True)
class Passage:
    """Text of a take, and when it is spoken, in seconds."""

    text: str
    start: float
    end: float
    speaker: str = ""
    """Who says it, in a dialogue."""


@dataclass(frozen=True, eq=False)
class Excerpt:
    """Part of a take from which a voice is made: its text, and its speech without pauses."""

    text: str
    audio: np.ndarray
    """float32 (samples,)."""
    finish_reason: str


@dataclass(frozen=True, eq=False)
class Take:
    """Generated speech, and how it was made."""

    request: PageRequest
    file: Path
    """WAV file."""
    excerpt: Excerpt
    seed: int
    duration: float
    """Seconds of audio."""
    finish_reason: str
    """Reason as in `GenerationResult`, or "stopped" by the visitor."""
    notes: tuple[str, ...] = ()
    """Warnings of the library, and what its guards did."""
    processing_seconds: float = 0.0
    passages: tuple[Passage, ...] = ()
    peaks: tuple[float, ...] = ()
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    created: float = field(default_factory=time.time)

    @property
    def file_name(self) -> str:
        """Name that browsers save it by, without a suffix."""
        return f"{self.request.mode}-seed-{self.seed}"

    @property
    def remarks(self) -> list[str]:
        """Lines for the visitor about what did not go as wished."""
        lines = []
        if self.finish_reason == "stopped":
            lines.append("You stopped it; this is the speech up to then.")
        if self.finish_reason in ("length", "silence"):
            lines.append("It may be incomplete; make it again, or shorten the text.")
        return [*lines, *map(in_plain_words, self.notes)]

    def as_json(self) -> dict[str, object]:
        """What the page shows of it, and sends to make it again."""
        return {
            "id": self.id,
            **self.request.as_json(),
            "seed": str(self.seed),  # JavaScript's numbers are not long enough
            "duration": round(self.duration, 2),
            "processing_seconds": round(self.processing_seconds, 2),
            "finish_reason": self.finish_reason,
            "remarks": self.remarks,
            "peaks": list(self.peaks),
            "created": round(self.created),
            "file_name": self.file_name,
        }

    def subtitles(self, suffix: str) -> str:
        """Content of a subtitle file, ".srt" or ".vtt". Raises OSError or ValueError."""
        audio, rate = self.sound()
        cues = []
        for passage in self.passages:
            part = audio[round(passage.start * rate) : round(passage.end * rate)]
            cues += cues_of(
                passage.text,
                part,
                rate,
                passage.start,
                language=self.request.language,
                speaker=passage.speaker if self.request.shows_speakers else "",
            )
        return subtitles(cues, suffix)

    def encoded(self, format_name: str) -> bytes:
        """The speech as another file. Raises OSError or ValueError."""
        return encode_whole(*self.sound(), format_name)

    def sound(self) -> tuple[np.ndarray, int]:
        """Samples (L,) and their rate."""
        samples, rate = read_channels(self.file, "the take")
        return samples[:, 0], rate

    def remove(self) -> None:
        """Delete its file."""
        self.file.unlink(missing_ok=True)
