"""Vocabulary of a small voice that can't say other words: `words.txt` of a checkpoint."""

from __future__ import annotations

import logging
import re
import unicodedata
from pathlib import Path

from .normalization import INSTRUCTION

logger = logging.getLogger("mlx_voxcpm2")

_HAN = "\u4e00-\u9fff"
# Chinese is written without spaces, so its punctuation leaves none.
_CHINESE_PUNCTUATION = re.compile(rf"(?<=[{_HAN}])\s*[^\w\s]\W*(?=[{_HAN}])")


class KnownWords:
    """Words that a voice can say, in lower case. Chinese words are single characters."""

    def __init__(self, words: list[str]):
        self._words = words
        self._known = set(words)

    @classmethod
    def of(cls, checkpoint: Path) -> KnownWords | None:
        """Vocabulary of a checkpoint, or None if it can say anything."""
        file = checkpoint / "words.txt"
        return cls(file.read_text(encoding="utf-8").split()) if file.is_file() else None

    @property
    def words(self) -> list[str]:
        """All words."""
        return list(self._words)

    def folded(self, text: str) -> str:
        """Text as the voice has learnt it: lower case, without punctuation.

        An instruction in parentheses at the beginning, and white space at the ends, are kept.
        """
        match = INSTRUCTION.match(text)
        instruction = match.group() if match else ""
        words = _CHINESE_PUNCTUATION.sub("", text[len(instruction) :].casefold())
        folded = " ".join("".join(each if _is_spoken(each) else " " for each in words).split())
        start, end = len(words) - len(words.lstrip()), len(words.rstrip())
        return instruction + words[:start] + folded + words[end:]

    def unknown(self, text: str) -> list[str]:
        """Words of a folded text that the voice can't say."""
        words = INSTRUCTION.sub("", text).split()
        return [each for each in words if each not in self._known and not set(each) <= self._known]

    def warn(self, text: str) -> None:
        """Log a warning if a folded text has unknown words."""
        if words := self.unknown(text):
            logger.warning(
                "this voice does not know %s; it knows %d words, such as %s",
                ", ".join(map(repr, dict.fromkeys(words[:3]))),
                len(self._words),
                ", ".join(self._words[:3]),
            )


def _is_spoken(letter: str) -> bool:
    """Whether a character is no punctuation, symbol or space; an apostrophe is part of a word."""
    return letter == "'" or unicodedata.category(letter)[0] in "LMN"
