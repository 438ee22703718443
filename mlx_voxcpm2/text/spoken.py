"""The text as the model reads it: normalized, with the instruction in front, on one line."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..errors import option
from .characters import says_something, speakable
from .markup import without_scene_breaks
from .normalization import INSTRUCTION, normalized
from .segments import PAUSE_MARK, Segment, spoken_length

# Parentheses at the beginning of a text, with others in them.
_PARENTHESES = re.compile(r"^\s*[(（]((?:[^()（）]|[(（][^()（）]*[)）])*)[)）]")


def spoken_text(text: str, instruct: str | None = None, normalize: bool | str = False) -> str:
    """`(instruct)text` with every run of white space as one space, without what can't be spoken.

    normalize: see `GenerationOptions`; the instruction is not normalized. Raises ValueError for a
    text without words.
    """
    if normalize and isinstance(text, str):
        text = normalized(text, None if normalize is True else normalize)
    check_text(text)
    return with_instruction(speakable(without_scene_breaks(text)), instruct)


def with_instruction(text: str, instruct: str | None) -> str:
    """`(instruct)text` on one line. Raises ValueError for an instruction that is not a string."""
    if instruct is not None and not isinstance(instruct, str):
        raise ValueError(
            f"{option('instruct')} is a {type(instruct).__name__}; it must be a string"
        )
    if instruct and instruct.strip():
        text = f"({instruct.strip()}){text}"
    return re.sub(r"\s+", " ", text)


def has_words(text: str) -> bool:
    """Whether a text has anything to say: a letter or a digit that is seen, or a sound like [sigh].

    Marks, emoji, a description in parentheses alone and `[pause:1]` say nothing.
    """
    return says_something(PAUSE_MARK.sub("", INSTRUCTION.sub("", text)))


def without_instruction(text: str) -> str:
    """Text whose parentheses at the beginning are words, not an instruction for the model.

    "(He sat.) Yes." -> "He sat. Yes."
    """
    while True:
        opened = _PARENTHESES.sub(r"\1", text)
        if opened == text and INSTRUCTION.match(text):
            opened = text.lstrip()[1:]  # one that is never closed
        if not INSTRUCTION.match(opened):
            return opened
        text = opened


def text_to_speak(segment: Segment, is_first: bool) -> str:
    """Text of a segment as the model is to read it. is_first: of those with words.

    Only the whole may begin with an instruction: in a book "(He sits.)" is text, and the style of a
    dialogue's turn is no longer in its text.
    """
    is_whole = is_first and not segment.speaker
    return segment.text if is_whole else without_instruction(segment.text)


def texts_to_speak(segments: Sequence[Segment]) -> dict[int, str]:
    """Texts of the segments that have one, by index: see `text_to_speak`."""
    with_text = {index: segment for index, segment in enumerate(segments) if segment.text}
    first = min(with_text, default=0)
    return {index: text_to_speak(each, index == first) for index, each in with_text.items()}


def check_text(text: object, normalize: bool | str = False) -> None:
    """Raise ValueError for a text that has nothing to say, or for what is no text.

    normalize: whether, or in which language, it is normalized before it is spoken: "∞" is a word
    then.
    """
    if text is not None and not isinstance(text, str):
        raise ValueError(f"text is a {type(text).__name__}; it must be a string")
    if text is None or not text.strip():
        raise ValueError("text is empty; give the words to speak")
    if not has_words(text):
        if normalize and has_words(normalized(text, None if normalize is True else normalize)):
            return
        shown = text.strip() if len(text) < 40 else f"{text.strip()[:40]}…"
        if INSTRUCTION.match(text):
            raise ValueError(
                f"text is empty but for a description in parentheses: {shown!r}; give the words to "
                "speak after it"
            )
        raise ValueError(f"text is empty of words: {shown!r}; give the words to speak")


def spoken_letters(text: str) -> int:
    """Number of letters and digits to be spoken, by `spoken_length`.

    The instruction in parentheses before a text is not spoken.
    """
    return spoken_length("".join(filter(str.isalnum, INSTRUCTION.sub("", text))))
