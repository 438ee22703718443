"""How far speech is, and how long the rest will take."""

from __future__ import annotations

from ..text.spoken import spoken_letters

LETTERS_PER_SECOND = 14.0
"""Of English that is read aloud; the first takes of a model correct it."""

_WEIGHT = 0.4
"""Weight of the last take in the estimate."""
_SHORTEST = 0.3
"""Seconds of the shortest speech."""


class Pace:
    """Seconds of speech that a text is expected to have, learnt from earlier takes."""

    def __init__(self) -> None:
        self.letters_per_second = LETTERS_PER_SECOND

    def expected(self, text: str) -> float:
        return max(_SHORTEST, spoken_letters(text) / self.letters_per_second)

    def learn(self, text: str, seconds: float) -> None:
        """Take account of a text that was spoken completely in these seconds."""
        letters = spoken_letters(text)
        if letters and seconds > 0:
            measured = min(max(letters / seconds, 1.0), 100.0)
            self.letters_per_second += _WEIGHT * (measured - self.letters_per_second)


def remaining_seconds(spoken: float, expected: float, elapsed: float) -> float | None:
    """Seconds until the speech is complete; None before there is any to judge by.

    spoken, expected: seconds of speech. elapsed: seconds of work so far.
    """
    if spoken <= 0 or elapsed <= 0:
        return None
    return max(0.0, expected - spoken) * elapsed / spoken


def fraction_done(spoken: float, expected: float) -> float:
    """Part of the speech that is done, below 1, since only its end tells how long it is."""
    return min(spoken / expected, 0.97) if expected > 0 else 0.0
