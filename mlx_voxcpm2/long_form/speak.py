"""Speech of any length: segment by segment, all in one voice.

Each segment is a request of its own, with the same reference, so neither the caches nor the
voice depend on the length of the text.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..audio.stretching import stretched
from ..speech.keywords import SpeechKeywords, merged_options, split_keywords, with_keywords
from ..speech.options import GenerationOptions
from ..speech.results import FinishReason
from ..text.characters import says_something
from ..text.normalization import language_of, normalized
from ..text.segments import Segment, split_text
from ..text.spoken import without_instruction
from ..voices.inputs import VoiceInputs
from .cache import SegmentCache
from .joiner import SegmentJoiner
from .options import LongFormKeywords, LongFormOptions
from .reader import SegmentReader

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..model import VoxCPM2
    from ..recognition.best_of import BestOf
    from ..recognition.verification import Verification


@dataclass(frozen=True, eq=False)
class SpokenSegment:
    """One segment of a long text."""

    index: int
    text: str
    audio: np.ndarray
    """Next audio of the whole, float32 (samples,), pauses included: all segments joined are the
    whole. With a crossfade, its end comes with the next segment."""
    sample_rate: int
    start: float
    """Start of the speech, in seconds of the whole."""
    end: float
    """End of the speech, without the pause after it."""
    sentences: int = 0
    """Number of sentences that end in it."""
    seed: int | None = None
    """Seed of the attempt; None for silence."""
    finish_reason: FinishReason | None = None
    was_cached: bool = False
    """Whether an earlier run generated it."""
    guards: tuple[str, ...] = ()
    """See `GenerationResult`."""
    error_rate: float | None = None
    """See `GenerationResult`."""
    score: float | None = None
    """See `GenerationResult`."""
    unstretched: np.ndarray | None = None
    """Its speech before `speed` was applied, without the pause; None at speed 1."""
    speaker: str = ""
    """Who speaks it, in a dialogue."""

    @property
    def speech_as_generated(self) -> np.ndarray:
        """Its speech (samples,) at the model's speed: for recognisers, and to make a voice of it.

        With a crossfade at speed 1, without its end.
        """
        if self.unstretched is not None:
            return self.unstretched
        return self.audio[: round((self.end - self.start) * self.sample_rate)]

    def __repr__(self) -> str:
        return (
            f"SpokenSegment({self.index}, {self.text[:40]!r}, {self.start:.2f}..{self.end:.2f} s)"
        )


class LongSpeechKeywords(SpeechKeywords, LongFormKeywords, total=False):
    """Voice, options and long-form options as keyword arguments, for type checkers."""


@with_keywords(VoiceInputs, GenerationOptions, LongFormOptions)
def speak_long(
    model: VoxCPM2,
    text: str | Sequence[Segment],
    *,
    options: GenerationOptions | None = None,
    cache: SegmentCache | None = None,
    verify: Verification | None = None,
    best_of: BestOf | None = None,
    progress: Callable[[float], None] | None = None,
    **settings: Unpack[LongSpeechKeywords],
) -> Iterator[SpokenSegment]:
    """Speak a text of any length; yields its segments in order, each when it is ready.

    text: a text, or the segments that `split_text` made of it. The voice: see `VoiceInputs`;
    without any, the first long segment is generated first and cloned in all others. Its seeds:
    segment i has the options' seed plus 3 i, or with best_of 3 i times its takes. options and
    their keywords: see `GenerationOptions` and `LongFormOptions`. cache: stores each finished
    segment, so that an interrupted run can be resumed. verify: check by a recogniser that each
    segment is spoken. best_of: choose among several takes of each. progress: called with the
    seconds of speech so far.

    `speed` changes the speech, not the pauses and crossfades between segments, which are given in
    seconds. The cache holds the speech as it was generated, for every speed.

    Raises ValueError, TypeError or FileNotFoundError at once, in one line.
    """
    inputs, sampling, long = split_keywords(
        speak_long, settings, VoiceInputs, GenerationOptions, LongFormOptions
    )
    options = merged_options(options, sampling)
    long_form = LongFormOptions(**long)
    language = options.language or long_form.language
    if options.normalize:
        text = _normalized(text, language)
        options = replace(options, normalize=False)
    segments = _silent_where_empty(text if not isinstance(text, str) else _split(text, long_form))
    if not any(segment.text for segment in segments):
        raise ValueError("text is empty; give the words to speak")
    voices = {"": VoiceInputs(**inputs)}
    return speak_segments(
        model, segments, voices, options, long_form, cache, verify, best_of, progress
    )


def speak_segments(
    model: VoxCPM2,
    segments: list[Segment],
    voices: Mapping[str, VoiceInputs],
    options: GenerationOptions,
    long_form: LongFormOptions,
    cache: SegmentCache | None = None,
    verify: Verification | None = None,
    best_of: BestOf | None = None,
    progress: Callable[[float], None] | None = None,
) -> Iterator[SpokenSegment]:
    """Speak segments, each in the voice of its speaker. Arguments and errors: see `speak_long`."""
    segments = model.request_builder.readable(segments)
    speaking = {segment.speaker for segment in segments if segment.text}
    encoded = {
        speaker: voice.encoded(model.clip_encoder)
        for speaker, voice in voices.items()
        if speaker in speaking
    }
    if options.seed is None:
        options = replace(options, seed=secrets.randbits(32) if cache is None else cache.seed())
    speed, options = options.speed, replace(options, speed=1.0)
    told = None if progress is None else lambda seconds: progress(seconds / speed)
    reader = SegmentReader(
        model, segments, encoded, options, long_form, cache, told, verify, best_of
    )
    joiner = SegmentJoiner(model.sample_rate, long_form.crossfade, long_form.match_level)
    return _joined(segments, reader, joiner, speed)


def _normalized(text: str | Sequence[Segment], language: str | None) -> str | Sequence[Segment]:
    """A text in words, before it is split, since words are longer; or its segments in words.

    All segments are read in one language, as the whole text would be.
    """
    if isinstance(text, str):
        return normalized(text, language)
    language = language or language_of(" ".join(segment.text for segment in text))
    return [
        replace(segment, text=normalized(segment.text, language)) if segment.text else segment
        for segment in text
    ]


def _silent_where_empty(segments: Sequence[Segment]) -> list[Segment]:
    """Segments, without the text of those that have nothing to say: they are their pauses."""
    return [
        segment if says_something(without_instruction(segment.text)) else replace(segment, text="")
        for segment in segments
    ]


def _split(text: str, options: LongFormOptions) -> list[Segment]:
    return split_text(text, options.segment_length, options.paragraph_pause, options.language)


def _joined(
    segments: list[Segment], reader: SegmentReader, joiner: SegmentJoiner, speed: float
) -> Iterator[SpokenSegment]:
    generated = reader.in_order()
    try:
        for index, segment in enumerate(segments):
            speech, was_cached = next(generated) if segment.text else (None, False)
            audio = np.zeros(0, np.float32) if speech is None else speech.audio
            audio = stretched(audio, joiner.sample_rate, speed)
            is_last = index == len(segments) - 1
            audio, (start, end) = joiner.add(audio, segment.pause, is_last)
            spoken = SpokenSegment(
                index, segment.text, audio, joiner.sample_rate, start, end, segment.sentences
            )
            if speech is not None:
                spoken = replace(
                    spoken,
                    seed=speech.seed,
                    finish_reason=speech.finish_reason,
                    was_cached=was_cached,
                    guards=speech.guards,
                    error_rate=speech.error_rate,
                    unstretched=speech.audio if speed != 1 else None,
                    speaker=segment.speaker,
                    score=speech.score,
                )
            yield spoken
    finally:
        generated.close()
