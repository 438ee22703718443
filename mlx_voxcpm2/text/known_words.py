"""Vocabulary of a small voice: `words.txt` and `descriptions.txt` of a checkpoint.

Such a voice can't say other words, and has learnt to speak as these descriptions say only.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from pathlib import Path

from ..errors import shown
from ..file_names import DESCRIPTIONS_FILE, WORDS_FILE
from .normalization import INSTRUCTION

logger = logging.getLogger("mlx_voxcpm2")

_HAN = "\u4e00-\u9fff"
# Chinese is written without spaces, so its punctuation leaves none.
_CHINESE_PUNCTUATION = re.compile(rf"(?<=[{_HAN}])\s*[^\w\s]\W*(?=[{_HAN}])")

_WORD = re.compile(r"\w+")


class KnownWords:
    """Words that a voice can say, in lower case, and descriptions of voices that it knows.

    Chinese words are single characters. Without descriptions any is let through.
    """

    def __init__(self, words: list[str], descriptions: list[str] | None = None):
        self._words, self._descriptions = words, descriptions or []
        self._known = set(words)
        self._reported: set[str] = set()
        """Descriptions that a warning has named: the parts of a long text all have the same."""

    @classmethod
    def of(cls, checkpoint: Path) -> KnownWords | None:
        """Vocabulary of a checkpoint, or None if it can say anything."""
        file, described = checkpoint / WORDS_FILE, checkpoint / DESCRIPTIONS_FILE
        if not file.is_file():
            return None
        descriptions = described.read_text("utf-8").splitlines() if described.is_file() else []
        return cls(file.read_text(encoding="utf-8").split(), descriptions)

    @property
    def words(self) -> list[str]:
        """All words."""
        return list(self._words)

    def folded(self, text: str) -> str:
        """Text as the voice has learnt it: lower case, without punctuation.

        A description in parentheses at the beginning is spelled as the voice knows it, or kept if
        it does not; so is white space at the ends.
        """
        match = INSTRUCTION.match(text)
        instruction = match.group() if match else ""
        words = _CHINESE_PUNCTUATION.sub("", text[len(instruction) :].casefold())
        if (known := self._known_description(instruction)) is not None:
            instruction = f"({known})"
        folded = " ".join("".join(each if _is_spoken(each) else " " for each in words).split())
        start, end = len(words) - len(words.lstrip()), len(words.rstrip())
        return instruction + words[:start] + folded + words[end:]

    def unknown(self, text: str) -> list[str]:
        """Words of a folded text that the voice can't say."""
        words = INSTRUCTION.sub("", text).split()
        return [each for each in words if each not in self._known and not set(each) <= self._known]

    def warn(self, text: str) -> None:
        """Log a warning if a folded text has unknown words, or begins with an unknown description.

        The latter once for each description.
        """
        if words := self.word_fault(text):
            logger.warning(words)
        match = INSTRUCTION.match(text)
        description = match.group() if match else ""
        if description not in self._reported and (fault := self.description_fault(description)):
            self._reported.add(description)
            logger.warning(fault)

    def word_fault(self, text: str) -> str | None:
        """Message that names unknown words of a folded text, or None."""
        if not (words := self.unknown(text)):
            return None
        unknown = ", ".join(map(repr, dict.fromkeys(words[:3])))
        count, some = len(self._words), ", ".join(self._words[:3])
        return f"this voice does not know {unknown}; it knows {count} words, such as {some}"

    def description_fault(self, description: str) -> str | None:
        """Message for a description that this voice does not know, or None."""
        plain = description.strip().strip("()（）").strip()
        if not plain or not self._descriptions or self._known_description(plain) is not None:
            return None
        return (
            f"this voice does not know the description {shown(plain)}; it knows "
            f"{', '.join(self._descriptions)}"
        )

    def _known_description(self, description: str) -> str | None:
        """The known description that is meant, however it is spelled."""
        words = _WORD.findall(description.casefold())
        return next((each for each in self._descriptions if each.split() == words), None)


def _is_spoken(letter: str) -> bool:
    """Whether a character is no punctuation, symbol or space; an apostrophe is part of a word."""
    return letter == "'" or unicodedata.category(letter)[0] in "LMN"
