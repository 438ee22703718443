"""Transcripts of recordings of any length, as segments with their times."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ...audio.silences import cut_at_silences
from ...models.voxtral.config import SAMPLE_RATE
from ..transcript import Transcript

Transcribe = Callable[[tuple[np.ndarray, int]], Transcript]


@dataclass(frozen=True)
class Segment:
    """A part of a recording, cut at silences, with its transcript."""

    start: float
    """Seconds from the beginning of the recording."""
    end: float
    duration: float
    """Seconds of the whole recording; `end / duration` is the progress so far."""
    transcript: Transcript

    @property
    def text(self) -> str:
        """Text of the transcript."""
        return self.transcript.text


def transcribe_segments(
    samples: np.ndarray, longest: float, transcribe: Transcribe
) -> Iterator[Segment]:
    """Segments of samples (L,), 16 kHz, of at most `longest` seconds, each once transcribed."""
    duration = len(samples) / SAMPLE_RATE
    for start, end in cut_at_silences(samples, SAMPLE_RATE, longest):
        transcript = transcribe((samples[start:end], SAMPLE_RATE))
        yield Segment(start / SAMPLE_RATE, end / SAMPLE_RATE, duration, transcript)
