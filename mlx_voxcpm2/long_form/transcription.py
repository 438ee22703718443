"""Transcription of recordings of any usual length, with the times of its sentences.

A recording is cut at its quietest places into pieces that the recogniser takes; the times of the
sentences in a piece are the recogniser's, or those of the pauses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..audio.decoding import RECORDING
from ..audio.reading import read_audio
from ..audio.silences import cut_at_silences, is_silent
from ..recognition.protocols import (
    WINDOW_SECONDS,
    Recogniser,
    SegmentRecogniser,
    TranscriptSegment,
    WordRecogniser,
    in_language,
    longest_seconds,
)
from ..recognition.word_times import WordTime
from ..text.words import has_no_spaces
from .cues import Cue, cues_of, unbroken

if TYPE_CHECKING:
    from ..audio.reading import AudioSource


RATE = 16_000
"""Sample rate in Hz at which recordings are read."""


@dataclass(frozen=True)
class Transcription:
    """Transcript of a recording."""

    text: str
    duration: float
    """Seconds of the recording."""
    language: str | None = None
    """Language that was given; None if the recogniser chose."""
    segments: tuple[TranscriptSegment, ...] = ()
    """Sentences, or parts of long ones, with their times; none if they were not asked for."""
    cues: tuple[Cue, ...] = ()
    """The same as subtitles, in lines; one for each segment."""
    words: tuple[WordTime, ...] = ()
    """Times of the words; none if they were not asked for."""


def transcribe(
    audio: AudioSource,
    recogniser: Recogniser,
    *,
    language: str | None = None,
    has_times: bool = True,
    has_words: bool = False,
    name: str = "audio",
    progress: Callable[[float, float], None] | None = None,
    heard: Callable[[str], None] | None = None,
) -> Transcription:
    """Transcribe a recording of up to three hours.

    audio and name: see `read_audio`. recogniser: see `load_recogniser`. language: a code such as
    "de", for recognisers that take one. has_times: whether to find the times of sentences.
    has_words: those of words, in a second pass. progress: called with the seconds that are
    transcribed, and those of the whole. heard: called with each next part of the text. Without
    times and `heard` the recogniser hears as much at once as it can.

    Raises ValueError or FileNotFoundError, in one line, and ValueError for a recogniser without
    times of words, if they are asked for. Where nothing is said the text is empty.
    """
    samples = read_audio(audio, RATE, name, RECORDING)
    recogniser, total = in_language(recogniser, language), len(samples) / RATE
    is_short = has_times or has_words or heard is not None
    longest = WINDOW_SECONDS if is_short else longest_seconds(recogniser)
    text = ""
    cues: list[Cue] = []
    words: list[WordTime] = []
    for start, end in cut_at_silences(samples, RATE, longest):
        piece = samples[start:end]
        if progress is not None:
            progress(start / RATE, total)
        if is_silent(piece, RATE):
            continue  # recognisers invent words for silence
        found = _passages(piece, recogniser, has_times)
        before, text = text, joined([text, *(passage.text for passage in found)])
        if heard is not None and text != before:
            heard(text[len(before) :])
        if has_words:
            words += _words(piece, recogniser, start / RATE)
        if has_times:
            for passage in found:
                cues += _cues(passage, piece, start / RATE, language)
    if progress is not None:
        progress(total, total)
    segments = tuple(TranscriptSegment(unbroken(c.text), c.start, c.end) for c in cues)
    return Transcription(text, total, language, segments, tuple(cues), tuple(words))


def _passages(
    audio: np.ndarray, recogniser: Recogniser, has_times: bool
) -> list[TranscriptSegment]:
    """What is said in audio (samples,), as one passage or with the recogniser's own times."""
    length = len(audio) / RATE
    if has_times and isinstance(recogniser, SegmentRecogniser):
        found = recogniser.segments(audio, RATE)
        if found is not None:
            return found
    text = recogniser(audio, RATE)
    if not isinstance(text, str):
        raise ValueError(f"the recogniser returns a {type(text).__name__}; it must be a string")
    return [TranscriptSegment(" ".join(text.split()), 0.0, length)]


def _words(audio: np.ndarray, recogniser: Recogniser, start: float) -> list[WordTime]:
    """Words of audio (samples,) that begins at `start` seconds, with their times in the whole."""
    if not isinstance(recogniser, WordRecogniser):
        raise ValueError("the recogniser gives no times of words; do not ask for them")
    found = recogniser.words(audio, RATE)
    return [WordTime(each.text.strip(), start + each.start, start + each.end) for each in found]


def _cues(
    passage: TranscriptSegment, audio: np.ndarray, start: float, language: str | None
) -> list[Cue]:
    """Subtitles of a passage of audio (samples,) that begins at `start` seconds of the whole."""
    length = len(audio) / RATE
    first, last = min(max(passage.start, 0.0), length), min(passage.end, length)
    part = audio[round(first * RATE) : round(last * RATE)]
    return cues_of(passage.text, part, RATE, start + first, language=language)


def joined(texts: list[str]) -> str:
    """Successive parts of a transcript as one text. Empty ones count as none."""
    whole = ""
    for text in filter(None, texts):
        is_joined = has_no_spaces(whole[-8:]) and has_no_spaces(text[:8])
        gap = "" if not whole or is_joined else " "
        whole += gap + text
    return whole
