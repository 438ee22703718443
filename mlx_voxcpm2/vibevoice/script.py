"""Scripts of dialogues -> turns, and turns -> the prompt's tokens.

Upstream: vibevoice 0.0.1, processor/vibevoice_processor.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import shown
from ..text.byte_pairs import check_characters, read_tokenizer

MOST_SPEAKERS = 4
START, END, FRAME, STOP = "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|endoftext|>"
"""Tokens by which the model begins a segment, ends it, asks for a frame, and ends the dialogue."""

_SYSTEM = (
    " Transform the text provided by various speakers into speech output, utilizing the distinct "
    "voice of each respective speaker.\n"
)
_TURN = re.compile(r"speaker\s+(\d+)\s*:\s*(.*)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Turn:
    """What one speaker says without a break. speaker: from 0."""

    speaker: int
    text: str


def read_turns(script: str) -> list[Turn]:
    """Turns of a script with lines "Speaker 1: text".

    A line without a label continues the turn before it; a script without labels is one turn.
    Numbers from 1 on are lowered by one. Raises ValueError.
    """
    if not isinstance(script, str):
        raise ValueError(f"the script is a {type(script).__name__}; it must be a string")
    check_characters(script, "the script")
    turns: list[tuple[int, str]] = []
    lines = [line.strip() for line in script.replace("\u2019", "'").splitlines()]
    is_labelled = any(_TURN.fullmatch(line) for line in lines)
    for line in filter(None, lines):
        if found := _TURN.fullmatch(line):
            turns.append((_number(found[1]), found[2].strip()))
        elif turns:
            speaker, text = turns[-1]
            turns[-1] = speaker, f"{text} {line}".strip()
        elif is_labelled:
            raise ValueError(
                f"the script begins with {shown(line)}, which nobody speaks; begin it with "
                '"Speaker 1: …"'
            )
        else:
            turns.append((0, line))
    if not any(text for _, text in turns):
        raise ValueError("the script is empty; give lines such as Speaker 1: Hello.")
    speakers = {speaker for speaker, _ in turns}
    if len(speakers) > MOST_SPEAKERS:
        raise ValueError(
            f"the script has {len(speakers)} speakers; VibeVoice has voices for {MOST_SPEAKERS}"
        )
    shift = 1 if min(speakers) > 0 else 0
    return [Turn(speaker - shift, text) for speaker, text in turns]


def _number(digits: str) -> int:
    if len(digits) > 6:
        raise ValueError(f"speaker {digits[:20]} has too high a number; number speakers from 1")
    return int(digits)


@dataclass(frozen=True)
class LegalTokens:
    """The four tokens that the model may choose."""

    start: int
    end: int
    frame: int
    stop: int

    @property
    def ids(self) -> list[int]:
        """In the order of `Step.logits`."""
        return [self.start, self.end, self.frame, self.stop]


class Tokenizer:
    """Qwen2's tokenizer, with VibeVoice's four tokens by name.

    Raises FileNotFoundError or ValueError.
    """

    def __init__(self, path: Path):
        self._bpe = read_tokenizer(path, "give a tokenizer.json of Qwen2.5")
        self.path = path
        self._special = re.compile("|".join(map(re.escape, self._special_tokens())) or "$^")
        self.legal = LegalTokens(*map(self._id, (START, END, FRAME, STOP)))

    def _special_tokens(self) -> list[str]:
        added = self._bpe.get_added_tokens_decoder().values()
        return sorted((each.content for each in added if each.special), key=len, reverse=True)

    def _id(self, name: str) -> int:
        id = self._bpe.token_to_id(name)
        if id is None:
            raise ValueError(f"{self.path}: no token {name}; take the tokenizer.json of Qwen2.5")
        return id

    def text(self, text: str) -> list[int]:
        """Token ids of text. Raises ValueError for text that spells a special token."""
        if found := self._special.search(text):
            raise ValueError(f"the script holds {found[0]}, a control token; take it out")
        return self._bpe.encode(text, add_special_tokens=False).ids

    def prompt(self, turns: Sequence[Turn], frames_per_voice: Sequence[int] = ()) -> list[int]:
        """The prompt of a dialogue, with a placeholder per frame of each voice.

        frames_per_voice: of the voices of speakers 0, 1 … Raises ValueError for more voices than
        speakers.
        """
        speakers = {turn.speaker for turn in turns}
        if len(frames_per_voice) > len(speakers):
            voices = f"{len(frames_per_voice)} voices for {len(speakers)} speakers"
            raise ValueError(f"there are {voices}; leave the others out")
        ids = self.text(_SYSTEM)
        if frames_per_voice:
            ids += self.text(" Voice input:\n")
        for speaker, count in enumerate(frames_per_voice):
            ids += self.text(f" Speaker {speaker}:")
            ids += [self.legal.start, *[self.legal.frame] * count, self.legal.end, *self.text("\n")]
        ids += self.text(" Text input:\n")
        for turn in turns:
            ids += self.text(f" Speaker {turn.speaker}: {turn.text}\n")
        return [*ids, *self.text(" Speech output:\n"), self.legal.start]
