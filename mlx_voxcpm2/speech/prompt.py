"""The input sequence of the model: one layout for all five modes.

    [reference start, reference patches, reference end]?  text  audio start  [prompt patches]?

Zero-shot has neither option, voice design puts a description into the text, a reference alone
clones a voice, a prompt alone is continued, and both together do both.
Upstream: model/voxcpm2.py (`_make_ref_prefix`, `_generate_with_prompt_cache`, `_inference`).
"""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx

from ..text.tokenizer import AUDIO_START, REFERENCE_END, REFERENCE_START

# The audio decoder starts with this many patches of the audio before.
CONTEXT_PATCHES = 3


@dataclass(frozen=True)
class Prompt:
    """Input sequence: tokens and is_audio of T positions; patches (N, P, D) of the N audio
    positions, or None; how many positions at the beginning are the reference's."""

    tokens: list[int]
    is_audio: list[bool]
    patches: mx.array | None
    reference_positions: int = 0

    @classmethod
    def build(
        cls,
        text: list[int],
        reference: mx.array | None = None,
        prompt: mx.array | None = None,
        audio_start: int = AUDIO_START,
    ) -> Prompt:
        """Sequence of text ids, and of reference and prompt patches (N, P, D).

        audio_start: the token between text and prompt; training has another for some clips.
        """
        tokens, is_audio = [], []

        def add(ids: list[int], audio: bool = False) -> None:
            tokens.extend(ids)
            is_audio.extend([audio] * len(ids))

        if reference is not None:
            add([REFERENCE_START])
            add([0] * len(reference), audio=True)
            add([REFERENCE_END])
        reference_positions = len(tokens)
        add([*text, audio_start])
        if prompt is not None:
            add([0] * len(prompt), audio=True)
        audio = [patches for patches in (reference, prompt) if patches is not None]
        patches = mx.concatenate(audio) if audio else None
        return cls(tokens, is_audio, patches, reference_positions)

    @staticmethod
    def positions(text: int, reference: int, prompt: int) -> int:
        """Length of the sequence for so many text ids, reference patches and prompt patches."""
        return text + 1 + prompt + (reference + 2 if reference else 0)

    def positions_between(self, first: int, end: int) -> Prompt:
        """The sequence of some of its positions."""
        skipped, count = sum(self.is_audio[:first]), sum(self.is_audio[first:end])
        patches = None if self.patches is None else self.patches[skipped : skipped + count]
        return Prompt(self.tokens[first:end], self.is_audio[first:end], patches if count else None)

    @property
    def continues(self) -> bool:
        """Whether the speech continues audio, rather than beginning after text."""
        return self.is_audio[-1]

    @property
    def _continued(self) -> mx.array | None:
        return self.patches if self.continues else None

    @property
    def last_patch(self) -> mx.array | None:
        """Patch (P, D) before the first generated one, or None."""
        return None if self._continued is None else self._continued[-1]

    @property
    def context(self) -> mx.array | None:
        """Patches (up to 3, P, D) that are decoded first, so that the audio joins, or None.

        After a very short prompt the last ones of the reference are among them, as upstream.
        """
        return None if self._continued is None else self._continued[-CONTEXT_PATCHES:]
