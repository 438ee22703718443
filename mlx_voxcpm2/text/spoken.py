"""The text as the model reads it: normalized, with the instruction in front, on one line."""

from __future__ import annotations

import re

from .normalization import INSTRUCTION, normalized
from .segments import spoken_length


def spoken_text(text: str, instruct: str | None = None, normalize: bool | str = False) -> str:
    """`(instruct)text` with every run of white space as one space.

    normalize: see `GenerationOptions`; the instruction is not normalized. Raises ValueError for an
    empty text.
    """
    if normalize and isinstance(text, str):
        text = normalized(text, None if normalize is True else normalize)
    check_text(text)
    return with_instruction(text, instruct)


def with_instruction(text: str, instruct: str | None) -> str:
    """`(instruct)text` on one line. Raises ValueError for an instruction that is not a string."""
    if instruct is not None and not isinstance(instruct, str):
        raise ValueError(f"instruct is a {type(instruct).__name__}; it must be a string")
    if instruct and instruct.strip():
        text = f"({instruct.strip()}){text}"
    return re.sub(r"\s+", " ", text)


def check_text(text: object) -> None:
    """Raise ValueError for an empty text, or for what is none."""
    if text is not None and not isinstance(text, str):
        raise ValueError(f"text is a {type(text).__name__}; it must be a string")
    if text is None or not text.strip():
        raise ValueError("text is empty; give the words to speak")


def spoken_letters(text: str) -> int:
    """Number of letters and digits to be spoken, by `spoken_length`.

    The instruction in parentheses before a text is not spoken.
    """
    return spoken_length("".join(filter(str.isalnum, INSTRUCTION.sub("", text))))
