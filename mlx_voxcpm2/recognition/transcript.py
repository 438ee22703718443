"""Results of recognition by a language model: transcripts, and how probable a given text is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Transcript:
    """A transcript, or an answer, with the tokens that it was decoded from."""

    text: str
    """Without spaces at its ends."""
    tokens: tuple[int, ...]
    """With the token that ended the text, if one did."""
    log_probs: tuple[float, ...]
    """Natural logarithm of each token's probability, without temperature."""
    finish_reason: FinishReason
    """"stop" when the model ended, "length" when a limit did."""
    language: str | None = None
    """The language as it was given."""


@dataclass(frozen=True)
class Score:
    """Probability of a text as the transcript of a sound."""

    log_probs: tuple[float, ...]
    """Natural logarithm of the probability of each of the text's tokens, and of the end behind
    them: without the end, speech that goes on after the text would cost nothing."""

    @property
    def total(self) -> float:
        """Logarithm of the probability of the whole text."""
        return sum(self.log_probs)

    @property
    def mean(self) -> float:
        """Mean over the tokens and the end: comparable between texts of different lengths."""
        return self.total / len(self.log_probs)


def stripped(pieces: Iterable[str]) -> Iterator[str]:
    """The pieces without what `str.strip` takes off the joined text, and without empty ones."""
    held, has_begun = "", False
    for piece in pieces:
        piece = held + piece if has_begun else piece.lstrip()
        has_begun = has_begun or bool(piece)
        shown = piece.rstrip()
        held = piece[len(shown) :]
        if shown:
            yield shown
