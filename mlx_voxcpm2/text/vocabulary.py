"""Vocabulary of a small voice: what it can read, and the descriptions of voices that it knows.

A checkpoint has it as `words.txt` or `characters.txt`, and `descriptions.txt`.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from abc import ABC, abstractmethod
from pathlib import Path

from ..errors import option, shown
from ..file_names import CHARACTERS_FILE, DESCRIPTIONS_FILE, WORDS_FILE
from .normalization import INSTRUCTION, SIGNS, is_normalize_installed
from .segments import SEGMENT_LENGTH

logger = logging.getLogger("mlx_voxcpm2")

LONGEST_TEXT = 400
"""Characters that a voice of `KnownCharacters` has learnt to speak at once."""

_HAN = "\u4e00-\u9fff"
# Chinese is written without spaces, so its punctuation leaves none.
_CHINESE_PUNCTUATION = re.compile(rf"(?<=[{_HAN}])\s*[^\w\s]\W*(?=[{_HAN}])")

_WORD = re.compile(r"\w+")

# Typographic marks -> those of a typewriter.
_TYPED = str.maketrans(
    {"“": '"', "”": '"', "„": '"', "‘": "'", "’": "'", "–": "-", "—": ", ", "…": "...", "。": "."}
)

# Letters that Unicode does not take apart -> those that are read instead.
_PLAIN_LETTERS = {
    **{"ß": "ss", "ẞ": "SS", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D"},
    **{"æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "þ": "th", "Þ": "Th", "ð": "th", "Ð": "Th"},
    **{"ı": "i", "ħ": "h"},
}

# Marks that end a sentence, with quotes and brackets after them; marks that end none.
_FINISHED = re.compile(r"[.?!][\"')\]]*$")
_UNFINISHED = re.compile(r"[\s,;:-]*([\"')\]]*)$")

# The point of "example.com", but not of "No.Yes" or "p.m.".
_DOT = re.compile(r"(?<=[a-z]{2})\.(?=[a-z]{2})")


class Vocabulary(ABC):
    """Readable text of a voice, and the descriptions that it knows; without any, it knows all."""

    def __init__(self, descriptions: list[str] | None = None):
        self.descriptions = descriptions or []
        self._reported: set[str] = set()
        """What a warning has named: the parts of a long text all have the same."""

    @abstractmethod
    def words_of(self, text: str) -> list[str]:
        """Words that this voice can say, of the text or else of its own."""

    @abstractmethod
    def _spelled(self, text: str) -> str:
        """Text without a description, as the voice has learnt it; unknown parts stay."""

    @abstractmethod
    def text_fault(self, text: str) -> str | None:
        """Message that names what the voice can't read of a folded text, or None."""

    def readable(self, text: str) -> str:
        """Folded text without what the voice can't read. Raises ValueError if nothing is left."""
        return text

    def unreadable(self, text: str) -> str | None:
        """Message if nothing of a text can be read, without normalizing it, or None."""
        try:
            self.readable(self.folded(text))
        except ValueError as error:
            has_numbers = any(map(str.isdigit, text))
            return None if has_numbers and self.language_to_normalize(text) else str(error)
        return None

    def language_to_normalize(self, text: str) -> str | None:
        """Language in which a text must be normalized to be read, if it must and can be."""
        return None

    def folded(self, text: str) -> str:
        """Text as the voice has learnt it, with one space between words.

        A description in parentheses at the beginning is spelled as the voice knows it, or kept if
        it does not; so is white space at the ends.
        """
        match = INSTRUCTION.match(text)
        instruction = match.group() if match else ""
        rest = text[len(instruction) :]
        if (known := self._known_description(instruction)) is not None:
            instruction = f"({known})"
        start, end = len(rest) - len(rest.lstrip()), len(rest.rstrip())
        return instruction + rest[:start] + " ".join(self._spelled(rest).split()) + rest[end:]

    def continued(self, prompt_text: str, text: str) -> str:
        """Folded text of a clip with the text that continues it."""
        return self.folded(f"{prompt_text} {text}")

    def warn(self, text: str) -> None:
        """Log a warning if a folded text has unknown parts, or begins with an unknown description.

        The latter once for each description.
        """
        if fault := self.text_fault(text):
            logger.warning(fault)
        match = INSTRUCTION.match(text)
        description = match.group() if match else ""
        if fault := self.description_fault(description):
            self._warn_once(description, fault)

    def warn_of_transcript(self, transcript: str) -> None:
        """Log a warning, once, if the transcript of a clip has unknown parts."""
        if fault := self.text_fault(self.folded(transcript)):
            self._warn_once(f"transcript: {fault}", f"{option('prompt_text')}: {fault}")

    def _warn_once(self, about: str, message: str) -> None:
        if about not in self._reported:
            self._reported.add(about)
            logger.warning(message)

    def description_fault(self, description: str) -> str | None:
        """Message for a description that this voice does not know, or None."""
        plain = description.strip().strip("()（）").strip()
        if not plain or not self.descriptions or self._known_description(plain) is not None:
            return None
        known = ", ".join(self.usual_descriptions())
        return f"this voice does not know the description {shown(plain)}; it knows {known}"

    def usual_descriptions(self) -> list[str]:
        """Descriptions to choose from: all, unless some say the same."""
        return self.descriptions

    def _known_description(self, description: str) -> str | None:
        """The known description that is meant, however it is spelled."""
        words = _WORD.findall(description.casefold())
        return next((each for each in self.descriptions if _WORD.findall(each) == words), None)


class KnownWords(Vocabulary):
    """Words that a voice can say, in lower case; Chinese words are single characters."""

    def __init__(self, words: list[str], descriptions: list[str] | None = None):
        super().__init__(descriptions)
        self._words, self._known = words, set(words)

    def words_of(self, text: str) -> list[str]:
        return list(self._words)

    def _spelled(self, text: str) -> str:
        """Lower case, without punctuation."""
        words = _CHINESE_PUNCTUATION.sub("", text.casefold())
        return "".join(each if _is_spoken(each) else " " for each in words)

    def unknown(self, text: str) -> list[str]:
        """Words of a folded text that the voice can't say."""
        words = INSTRUCTION.sub("", text).split()
        return [each for each in words if each not in self._known and not set(each) <= self._known]

    def text_fault(self, text: str) -> str | None:
        if not (words := self.unknown(text)):
            return None
        unknown = ", ".join(map(repr, dict.fromkeys(words[:3])))
        count, some = len(self._words), ", ".join(self._words[:3])
        return f"this voice does not know {unknown}; it knows {count} words, such as {some}"


class KnownCharacters(Vocabulary):
    """Characters that a voice can read, of which it says any word."""

    def __init__(self, characters: str, descriptions: list[str] | None = None):
        super().__init__(descriptions)
        self._known = {*characters, " "}
        self._signs = str.maketrans(
            {each: f" {words} " for each, words in SIGNS.items() if each not in self._known}
        )

    def words_of(self, text: str) -> list[str]:
        return text.split()

    def _spelled(self, text: str) -> str:
        """Text in known characters, where others stand for unknown ones or words for signs.

        é is e, a dash a comma, & "and", and the point of "example.com" a "dot". A text without a
        mark at its end gets a full stop: the voice has learnt sentences, and would go on.
        """
        typed = _DOT.sub(" dot ", self._typed(text)).translate(self._signs)
        typed = typed.replace(" ,", ",").rstrip()
        has_words = any(each.isalpha() and each in self._known for each in typed)
        if _FINISHED.search(typed) or not has_words:
            return typed
        return _UNFINISHED.sub(r".\1", typed, count=1)

    def _typed(self, text: str) -> str:
        """Text with the characters of a typewriter where these stand for others."""
        typed = unicodedata.normalize("NFC", text).translate(_TYPED)
        return "".join(map(self._known_for, typed))

    def _known_for(self, character: str) -> str:
        if character in self._known or character.isspace():
            return character
        parts = _PLAIN_LETTERS.get(character) or unicodedata.normalize("NFKD", character)
        plain = "".join(each for each in parts if not unicodedata.combining(each))
        return plain if plain and self._known.issuperset(plain) else character

    def warn(self, text: str) -> None:
        super().warn(text)
        length = len(INSTRUCTION.sub("", text).strip())
        if length > LONGEST_TEXT:
            self._warn_once(
                "length",
                f"this voice has learnt texts of up to {LONGEST_TEXT} characters, and makes many "
                f"mistakes in {length} at once; give {option('segment_length')} {SEGMENT_LENGTH}",
            )

    def text_fault(self, text: str) -> str | None:
        unknown = dict.fromkeys(each for each in text if self._is_unknown(each))
        if not unknown:
            return None
        some = ", ".join(map(repr, list(unknown)[:3]))
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        fault = f"this voice leaves out {some}{more}, which it can't read"
        advice = _advice_on_numbers(text)
        return f"{fault}; {advice}" if advice else fault

    def language_to_normalize(self, text: str) -> str | None:
        is_readable = not any(map(self._is_unknown, self._typed(INSTRUCTION.sub("", text))))
        return None if is_readable or not is_normalize_installed() else "en"

    def _known_description(self, description: str) -> str | None:
        """The known description that is meant, or else the longest whose words are all in it."""
        if (known := super()._known_description(description)) is not None:
            return known
        words = set(_WORD.findall(description.casefold()))
        parts = [each for each in self.descriptions if words.issuperset(_WORD.findall(each))]
        return max(parts, key=len, default=None)

    def usual_descriptions(self) -> list[str]:
        """Descriptions of one word, which are in the longer ones."""
        return [each for each in self.descriptions if " " not in each] or self.descriptions

    def readable(self, text: str) -> str:
        match = INSTRUCTION.match(text)
        if match and self.description_fault(match.group()):
            text = text[match.end() :]  # it would be read aloud
        left = "".join(" " if self._is_unknown(each) else each for each in text)
        if not any(map(str.isalpha, INSTRUCTION.sub("", left))):
            advice = _advice_on_numbers(text) or "it reads English"
            raise ValueError(f"this voice can't read {shown(text.strip())}; {advice}")
        return left

    def _is_unknown(self, character: str) -> bool:
        return character not in self._known and not character.isspace()


def read_vocabulary(checkpoint: Path) -> Vocabulary | None:
    """Vocabulary of a checkpoint, or None if it can say anything."""
    described = checkpoint / DESCRIPTIONS_FILE
    descriptions = described.read_text("utf-8").splitlines() if described.is_file() else []
    if (file := checkpoint / WORDS_FILE).is_file():
        return KnownWords(file.read_text(encoding="utf-8").split(), descriptions)
    if (file := checkpoint / CHARACTERS_FILE).is_file():
        return KnownCharacters(file.read_text(encoding="utf-8").strip(), descriptions)
    return None


def _advice_on_numbers(text: str) -> str | None:
    """How a text's numbers can be read; where the libraries are installed, they have been."""
    if not any(map(str.isdigit, text)) or is_normalize_installed():
        return None
    return "write numbers in words, or install 'mlx-voxcpm2[normalize]'"


def _is_spoken(letter: str) -> bool:
    """Whether a character is no punctuation, symbol or space; an apostrophe is part of a word."""
    return letter == "'" or unicodedata.category(letter)[0] in "LMN"
