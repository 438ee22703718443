"""What the model reads before it speaks: one sequence for all five modes.

    [reference start, reference patches, reference end]?  text  audio start  [prompt patches]?

Zero-shot has neither option, voice design puts a description into the text, the reference alone
clones a voice, the prompt alone goes on speaking, and both together do both.
Upstream: model/voxcpm2.py (`_make_ref_prefix`, `_generate_with_prompt_cache`, `_inference`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import mlx.core as mx

from ..text.normalization import MANNER, normalized
from ..text.segments import spoken_length
from ..text.tokenizer import AUDIO_START, REFERENCE_END, REFERENCE_START

# The audio decoder starts with this many patches of what was heard before.
CONTEXT_PATCHES = 3


def spoken_text(text: str, instruct: str | None = None, normalize: bool | str = False) -> str:
    """`(instruct)text` with every run of white space as one space.

    normalize: see `GenerationOptions`; the instruction stays as it is. Raises ValueError for a
    text that says nothing.
    """
    for name, value in (("text", text), ("instruct", instruct)):
        if value is not None and not isinstance(value, str):
            raise ValueError(f"{name} is a {type(value).__name__}; it must be a string")
    if normalize and text is not None:
        text = normalized(text, None if normalize is True else normalize)
    if text is None or not text.strip():
        raise ValueError("text is empty; give the words to speak")
    if instruct and instruct.strip():
        text = f"({instruct.strip()}){text}"
    return re.sub(r"\s+", " ", text)


def spoken_letters(text: str) -> int:
    """How many letters and digits are to be heard, by `spoken_length`.

    The manner in parentheses before a text is not spoken.
    """
    return spoken_length("".join(filter(str.isalnum, MANNER.sub("", text))))


def check_modes(instruct: str | None, prompt_audio: object, prompt_text: str | None) -> None:
    """Raises ValueError for what no mode combines; a reference goes with anything."""
    if (prompt_audio is None) != (prompt_text is None):
        given, missing = ("audio", "text") if prompt_text is None else ("text", "audio")
        raise ValueError(
            f"prompt_{given} is given without prompt_{missing}; a prompt needs both, its sound "
            "and its words"
        )
    if prompt_text is not None and not isinstance(prompt_text, str):
        raise ValueError(f"prompt_text is a {type(prompt_text).__name__}; it must be a string")
    if prompt_text is not None and not prompt_text.strip():
        raise ValueError("prompt_text is empty; give the words that prompt_audio speaks")
    if prompt_audio is not None and instruct and instruct.strip():
        raise ValueError(
            "instruct does not work with a prompt, the model would ignore or speak it; leave one "
            "of them out, or give the voice by ref_audio"
        )


@dataclass(frozen=True)
class Prompt:
    """tokens and is_audio of T positions; patches (N, P, D) of the N audio positions, or None."""

    tokens: list[int]
    is_audio: list[bool]
    patches: mx.array | None

    @classmethod
    def build(
        cls,
        text: list[int],
        reference: mx.array | None = None,
        prompt: mx.array | None = None,
    ) -> Prompt:
        """text ids, reference and prompt patches (N, P, D)."""
        tokens, is_audio = [], []

        def add(ids: list[int], audio: bool = False) -> None:
            tokens.extend(ids)
            is_audio.extend([audio] * len(ids))

        if reference is not None:
            add([REFERENCE_START])
            add([0] * len(reference), audio=True)
            add([REFERENCE_END])
        add([*text, AUDIO_START])
        if prompt is not None:
            add([0] * len(prompt), audio=True)
        audio = [patches for patches in (reference, prompt) if patches is not None]
        return cls(tokens, is_audio, mx.concatenate(audio) if audio else None)

    @staticmethod
    def positions(text: int, reference: int | None, prompt: int | None) -> int:
        """Length of the sequence for so many text ids, reference patches and prompt patches."""
        return text + 1 + (prompt or 0) + (reference + 2 if reference else 0)

    @property
    def continues(self) -> bool:
        """Whether speech goes on from audio, rather than beginning after text."""
        return self.is_audio[-1]

    @property
    def last_patch(self) -> mx.array | None:
        """The patch (P, D) before the first one to be drawn."""
        return self.patches[-1] if self.continues else None

    @property
    def context(self) -> mx.array | None:
        """Patches (up to 3, P, D) that the decoder hears first, so that speech joins on.

        After a very short prompt the last ones of the reference are among them, as upstream.
        """
        return self.patches[-CONTEXT_PATCHES:] if self.continues else None
