"""The words that a small voice has learnt, if it can't say others: `words.txt` of a checkpoint."""

from __future__ import annotations

import logging
from pathlib import Path

logger = logging.getLogger("mlx_voxcpm2")


class KnownWords:
    """Written as the text has to write them."""

    def __init__(self, words: list[str]):
        self._words = words
        self._known = set(words)

    @classmethod
    def of(cls, checkpoint: Path) -> KnownWords | None:
        """None for a voice that can say anything."""
        file = checkpoint / "words.txt"
        return cls(file.read_text(encoding="utf-8").split()) if file.is_file() else None

    def lacking(self, text: str) -> list[str]:
        """The words of a text that are not among them. Chinese ones are single characters."""
        return [
            word
            for word in text.split()
            if word not in self._known and not set(word) <= self._known
        ]

    def warn_of_others(self, text: str) -> None:
        if words := self.lacking(text):
            logger.warning(
                "this voice has not learnt %r; it says only: %s", words[0], " ".join(self._words)
            )
