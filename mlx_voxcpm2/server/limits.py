"""Limits of what a request may ask for: characters that are read, and silence."""

from __future__ import annotations

from collections.abc import Iterable

from ..text.segments import Segment

MOST_PAUSE_SECONDS = 600.0
"""Silence that one request may ask for."""
ORDINARY_PAUSE = 1.0
"""A pause up to this many seconds does not count, since a book has one after each paragraph."""


def check_length(text: str, others: Iterable[str | None], limit: int) -> None:
    """Raise ValueError for a text that is too long, with its descriptions and transcripts."""
    length = len(text) + sum(len(each or "") for each in others)
    if length > limit:
        is_alone = len(text) > limit
        advice = "; send it in parts" if is_alone else ", with descriptions and transcripts"
        raise ValueError(f"the input has {length} characters, {limit} is the limit here{advice}")


def check_pauses(segments: Iterable[Segment]) -> None:
    """Raise ValueError for pauses that are too long together: silence costs a client nothing."""
    pauses = (segment.pause for segment in segments)
    seconds = sum(pause for pause in pauses if pause > ORDINARY_PAUSE)
    if seconds > MOST_PAUSE_SECONDS:
        raise ValueError(
            f"the pauses come to {seconds:.0f} s, {MOST_PAUSE_SECONDS:.0f} s is the limit here; "
            "shorten them"
        )
