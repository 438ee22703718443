"""Options of dialogues: those of long texts, and the pause between turns."""

from __future__ import annotations

from dataclasses import dataclass

from ..long_form.options import LongFormKeywords, LongFormOptions
from ..settings import setting
from ..text.segments import LONGEST_PAUSE

TURN_PAUSE = 0.25
"""Seconds between two speakers: about what people leave in conversation."""


@dataclass(frozen=True)
class TurnOptions(LongFormOptions):
    """How to speak a dialogue turn by turn. Raises ValueError for a value out of range.

    turn_pause: 0..60 seconds of silence after a turn, unless a [pause:…] mark ends it. A turn is
    split, spoken and joined as a long text is, see `LongFormOptions`.
    """

    turn_pause: float = setting(
        TURN_PAUSE,
        "number",
        "silence between turns; [pause:0.8] at the end of one makes another",
        low=0,
        high=LONGEST_PAUSE,
        metavar="SECONDS",
    )


class TurnKeywords(LongFormKeywords, total=False):
    """`TurnOptions` as keyword arguments, for type checkers."""

    turn_pause: float
