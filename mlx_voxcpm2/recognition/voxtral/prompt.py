"""Voxtral's prompts: sequences of token ids with `[AUDIO]` where embeddings of sound go.

Source: mistral-common, tokens/tokenizers/instruct.py (`InstructTokenizerV7`).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass

from ...errors import shown
from ...text.tekken import Tekken

logger = logging.getLogger("mlx_voxcpm2")

LANGUAGES = {
    "en": "english",
    "es": "spanish",
    "fr": "french",
    "pt": "portuguese",
    "hi": "hindi",
    "de": "german",
    "nl": "dutch",
    "it": "italian",
}
"""Languages that the model was trained to transcribe, by its model card."""
_warned: set[str] = set()


def check_language(language: str | None) -> None:
    """Raises ValueError unless this is None or two lower-case letters; warns once of one that the
    model was not trained for."""
    if language is None:
        return
    if not isinstance(language, str) or not re.fullmatch("[a-z]{2}", language):
        named = (code for code, name in LANGUAGES.items() if name == str(language).lower())
        raise ValueError(
            f"language is {shown(language)}; give two letters of ISO 639-1, such as "
            f"{next(named, 'en')!r}, or leave it out"
        )
    if language not in LANGUAGES and language not in _warned:
        _warned.add(language)
        known = ", ".join(LANGUAGES)
        logger.warning("language %s: Voxtral was trained to transcribe %s", language, known)


@dataclass(frozen=True)
class ControlTokens:
    """Ids of the control tokens that prompts and transcripts have."""

    bos: int
    eos: int
    begin_inst: int
    end_inst: int
    pad: int
    audio: int
    begin_audio: int
    transcribe: int

    @classmethod
    def of(cls, tokenizer: Tekken) -> ControlTokens:
        """Ids by their names in tekken.json. Raises ValueError for one that is missing."""
        names = "<s> </s> [INST] [/INST] <pad> [AUDIO] [BEGIN_AUDIO] [TRANSCRIBE]"
        return cls(*map(tokenizer.control, names.split()))


class PromptBuilder:
    """Builds prompts. chunk_embeddings: embeddings, and so `[AUDIO]` tokens, per chunk of sound."""

    def __init__(self, tokenizer: Tekken, chunk_embeddings: int):
        self.tokenizer, self.chunk_embeddings = tokenizer, chunk_embeddings
        self.control = ControlTokens.of(tokenizer)

    def transcribe(self, chunks: int, language: str | None = None) -> list[int]:
        """Prompt for the transcript of so many chunks of one sound."""
        check_language(language)
        named = [] if language is None else self.tokenizer.encode(f"lang:{language}")
        return [*self.ask([chunks]), *named, self.control.transcribe]

    def ask(self, parts: Iterable[str | int]) -> list[int]:
        """Prompt of texts and sounds, in their order; a sound is its number of chunks."""
        control = self.control
        ids = [control.bos, control.begin_inst]
        for part in parts:
            if isinstance(part, str):
                ids += self.tokenizer.encode(part)
            else:
                ids += [control.begin_audio, *[control.audio] * (part * self.chunk_embeddings)]
        return [*ids, control.end_inst]
