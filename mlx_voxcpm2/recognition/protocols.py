"""What a recogniser gives: a callable of audio, and, of some, times, languages and likelihoods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from .word_times import WordTime

Recogniser = Callable[[np.ndarray, int], str]
"""Audio (samples,), float32, -1..1, and its sample rate in Hz -> transcript."""

WINDOW_SECONDS = 30.0
"""Longest audio that every recogniser takes at once."""


@dataclass(frozen=True)
class TranscriptSegment:
    """A part of a transcript and when it is spoken, in seconds."""

    text: str
    start: float
    end: float


@runtime_checkable
class SegmentRecogniser(Protocol):
    """A recogniser that tells when the parts of its transcript are spoken."""

    def __call__(self, audio: np.ndarray, sample_rate: int, /) -> str: ...

    def segments(self, audio: np.ndarray, sample_rate: int) -> list[TranscriptSegment] | None:
        """Parts of the transcript in order; None if this recogniser has no times after all."""
        ...


@runtime_checkable
class WordRecogniser(Protocol):
    """A recogniser that tells when each word is spoken."""

    def words(self, audio: np.ndarray, sample_rate: int) -> list[WordTime]:
        """Words in order, with their times. Raises ValueError if it has none after all."""
        ...


class Likelihood(Protocol):
    """How likely a text is, given audio."""

    @property
    def mean(self) -> float:
        """Mean log probability of the text's tokens and of its end; 0 is certain."""
        ...


@runtime_checkable
class Scorer(Protocol):
    """A recogniser that tells how likely a text is, given audio, without transcribing it."""

    def score(
        self, audio: tuple[np.ndarray, int], text: str, language: str | None = None
    ) -> Likelihood: ...


def longest_seconds(recogniser: Recogniser) -> float:
    """Longest audio to give to a recogniser at once: what it says, or `WINDOW_SECONDS`."""
    return float(getattr(recogniser, "longest_seconds", WINDOW_SECONDS))


def in_language(recogniser: Recogniser, language: str | None) -> Any:
    """The recogniser for a language, if it can be told one."""
    change = getattr(recogniser, "with_language", None)
    return recogniser if change is None or language is None else change(language)
