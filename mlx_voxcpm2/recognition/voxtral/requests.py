"""Options of a transcript or an answer, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass

from ...schema import check_integer, check_number
from .prompt import check_language

HOTTEST = 2.0
"""Temperature above which nothing but noise is drawn."""


@dataclass(frozen=True)
class DecodingOptions:
    """How to decode. Raises ValueError for a value out of range.

    max_tokens: None leaves it to the length of the sound. temperature: 0 takes the most probable
    token each time. top_p: share of the probability whose tokens are drawn from. seed: of the
    random numbers; None for others each time.
    """

    language: str | None = None
    max_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None

    def __post_init__(self):
        check_language(self.language)
        if self.max_tokens is not None:
            check_integer("max_tokens", self.max_tokens, 1, None)
        check_number("temperature", self.temperature, 0.0, HOTTEST)
        check_number("top_p", self.top_p, 0.01, 1.0)
        if self.seed is not None:
            check_integer("seed", self.seed, 0, None)
