"""Subtitles of the segments that a command speaks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..long_form.cues import Cue
    from ..long_form.speak import SpokenSegment
    from ..recognition.word_times import WordTime, WordTimer


@dataclass(frozen=True)
class CueMaker:
    """Makes the subtitles of segments."""

    language: str | None = None
    word_timer: WordTimer | None = None
    """Tells when words are spoken; None for the times of the pauses."""
    speed: float = 1.0
    shows_speakers: bool = False

    def cues_of(self, segment: SpokenSegment, position: int) -> list[Cue]:
        """Cues of a segment. position: index of its first sample in the whole.

        With a crossfade, the end of its speech comes with the next segment's audio.
        """
        from ..long_form.cues import cues_of

        rate = segment.sample_rate
        begin = max(0, round(segment.start * rate) - position)
        speech = segment.audio[begin : round(segment.end * rate) - position]
        return cues_of(
            segment.text,
            speech,
            rate,
            segment.start,
            language=self.language,
            words=self._word_times(segment) if len(speech) else [],
            speaker=segment.speaker if self.shows_speakers else "",
        )

    def _word_times(self, segment: SpokenSegment) -> list[WordTime]:
        """Words as they were recognised at the model's speed, in seconds of the output's speech."""
        if self.word_timer is None:
            return []
        words = self.word_timer(segment.speech_as_generated, segment.sample_rate)
        return [
            replace(word, start=word.start / self.speed, end=word.end / self.speed)
            for word in words
        ]
