"""Vocabulary of a small voice that can't say other words: `words.txt` of a checkpoint."""

from __future__ import annotations

import logging
from pathlib import Path

logger = logging.getLogger("mlx_voxcpm2")


class KnownWords:
    """Words that a voice can say, as they must be written."""

    def __init__(self, words: list[str]):
        self._words = words
        self._known = set(words)

    @classmethod
    def of(cls, checkpoint: Path) -> KnownWords | None:
        """Vocabulary of a checkpoint, or None if it can say anything."""
        file = checkpoint / "words.txt"
        return cls(file.read_text(encoding="utf-8").split()) if file.is_file() else None

    def unknown(self, text: str) -> list[str]:
        """Words of a text that the voice can't say. Chinese words are single characters."""
        words = text.split()
        return [each for each in words if each not in self._known and not set(each) <= self._known]

    def warn(self, text: str) -> None:
        """Log a warning if the text has unknown words."""
        if words := self.unknown(text):
            logger.warning(
                "this voice has not learnt %r; it says only: %s", words[0], " ".join(self._words)
            )
