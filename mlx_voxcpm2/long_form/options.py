"""Options of long texts: how they are split, generated and joined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from ..errors import option
from ..settings import check_settings, setting
from ..text.segments import LONGEST_PAUSE, PARAGRAPH_PAUSE, SEGMENT_LENGTH


@dataclass(frozen=True)
class LongFormOptions:
    """How to speak a text of any length. Raises ValueError for a value out of range.

    parallel: number of segments generated at once. continue_segments: each segment continues the
    audio and the words of the one before, so that the intonation flows over the join; not shown to
    sound better yet. Its style comes from there too, and not from `instruct`. The segment that
    gives the voice starts on its own, and so does one after a pause, after a segment that was cut
    off, or after one of more than 30 s. segment_length, paragraph_pause, language: see
    `split_text`. crossfade: 0..1 seconds that neighbouring segments share. match_level: see
    `SegmentJoiner`.
    """

    parallel: int = setting(1, "integer", "segments generated at once", low=1, metavar="N")
    continue_segments: bool = setting(
        False,
        "switch",
        "each segment continues the audio and words of the one before (not with --parallel)",
    )
    segment_length: int = setting(
        SEGMENT_LENGTH,
        "integer",
        "letters of a segment at most; a Chinese character counts as three; 0 for no limit",
        low=0,
        metavar="LETTERS",
    )
    paragraph_pause: float = setting(
        PARAGRAPH_PAUSE,
        "number",
        "silence between paragraphs; [pause:0.8] in the text makes others",
        low=0,
        high=LONGEST_PAUSE,
        metavar="SECONDS",
    )
    crossfade: float = setting(
        0.0, "number", "overlap of neighbouring segments", low=0, high=1, metavar="SECONDS"
    )
    match_level: bool = setting(False, "switch", "make all segments as loud as the first one")
    language: str | None = setting(
        None,
        "text",
        "language of the text, such as de; for abbreviations, numbers and recognisers",
        metavar="CODE",
    )

    def __post_init__(self):
        check_settings(self)
        if self.continue_segments and self.parallel > 1:
            raise ValueError(
                f"{option('parallel')} is {self.parallel} with {option('continue_segments')}, "
                "where each segment waits for the one before; leave one of them out"
            )


class LongFormKeywords(TypedDict, total=False):
    """`LongFormOptions` as keyword arguments, for type checkers."""

    parallel: int
    continue_segments: bool
    segment_length: int
    paragraph_pause: float
    crossfade: float
    match_level: bool
    language: str | None
