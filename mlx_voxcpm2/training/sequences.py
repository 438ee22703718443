"""Batches of examples in the layouts on which the model is trained.

Upstream: training/packers.py (`AudioFeatureProcessingPacker`). A row is the sequence of
`speech.prompt.Prompt`, ended by a token:

    [reference start, reference, reference end]?  text  audio start  speech  audio end

Without a reference, a clip that is only a prompt (`is_prompt`) has the reference's tokens in place
of audio start and end, and is no target. Shorter rows are padded on the right, where the causal
language models do not see it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ..speech.prompt import Prompt
from ..text.tokenizer import AUDIO_END, AUDIO_START, REFERENCE_END, REFERENCE_START


@dataclass(frozen=True)
class Example:
    """A text and its speech, to be learnt."""

    tokens: list[int]
    """Token ids of the text."""
    patches: np.ndarray
    """Latents of the speech (A, P, D)."""
    reference: np.ndarray | None = None
    """Latents of a clip in the same voice (R, P, D)."""
    is_prompt: bool = False
    """Whether the speech is only context, not a target."""

    @property
    def positions(self) -> int:
        """Length of the row."""
        reference = 0 if self.reference is None else len(self.reference)
        return Prompt.positions(len(self.tokens), reference, len(self.patches)) + 1

    @property
    def targets(self) -> int:
        """Number of patches to learn. As upstream, a prompt with a reference is a target too."""
        return 0 if self._is_context_only else len(self.patches)

    @property
    def counts(self) -> tuple[int, int]:
        """Number of terms of each loss: one per target."""
        return self.targets, self.targets

    @property
    def _is_context_only(self) -> bool:
        return self.is_prompt and not self._has_reference

    @property
    def _has_reference(self) -> bool:
        return self.reference is not None and len(self.reference) > 0

    def sequence(self) -> Prompt:
        """The whole row, with the token that ends the speech."""
        start, end = AUDIO_START, AUDIO_END
        if self._is_context_only:
            start, end = REFERENCE_START, REFERENCE_END
        reference = mx.array(self.reference) if self._has_reference else None
        row = Prompt.build(self.tokens, reference, mx.array(self.patches), audio_start=start)
        return Prompt([*row.tokens, end], [*row.is_audio, False], row.patches)


@dataclass(frozen=True)
class Sequences:
    """Rows of examples, and where in them the N patches and the M targets are.

    A target is predicted from the hidden states of the position before it.
    """

    tokens: mx.array
    """(B, T), 0 at audio positions and in the padding."""
    is_audio: mx.array
    """(B, T)."""
    patches: mx.array
    """(N, P, D) of the audio positions in order, row after row, float32."""
    targets: mx.array
    """(M,): position of each target among all B * T, row after row."""
    target_patch: mx.array
    """(M,): index in `patches` of the target."""
    previous_patch: mx.array
    """(M,): index in `patches` of the position before it, or -1 for text."""
    is_last: mx.array
    """(M,) 0 or 1: whether the speech ends with it, the label of the stop head."""
    weights: mx.array
    """(M,) 1, or 0 for padding."""

    @classmethod
    def of(cls, examples: Sequence[Example], multiple: int = 1) -> Sequences:
        """Batch of the examples.

        Above 1, T is padded to multiples of `multiple`, and N and M to multiples of twice that, so
        that there are fewer shapes to compile.
        """
        rows = [example.sequence() for example in examples]
        size = len(rows), _padded(max(len(row.tokens) for row in rows), multiple)
        tokens, last = np.zeros(size, np.int32), np.zeros(size, np.int32)
        is_audio, is_target = np.zeros(size, bool), np.zeros(size, bool)
        for index, (example, row) in enumerate(zip(examples, rows, strict=True)):
            length, end = len(row.tokens), len(row.tokens) - 1
            tokens[index, :length] = row.tokens
            is_audio[index, :length] = row.is_audio
            is_target[index, end - example.targets : end] = True
            last[index, end - 1] = 1
        number = np.cumsum(is_audio).reshape(size) - 1
        previous = np.full_like(number, -1)
        previous[:, 1:] = np.where(is_audio, number, -1)[:, :-1]
        multiple = multiple if multiple == 1 else 2 * multiple
        targets = int(is_target.sum())
        # At least 1: attention does not accept an empty batch, and all rows may be prompts.
        missing = _padded(max(targets, 1), multiple) - targets

        def at_targets(values: np.ndarray) -> mx.array:
            return mx.array(np.pad(values[is_target], (0, missing)).astype(np.int32))

        patches = mx.concatenate([row.patches for row in rows]).astype(mx.float32)
        padding = _padded(len(patches), multiple) - len(patches)
        positions = at_targets(np.arange(tokens.size).reshape(size))
        return cls(
            tokens=mx.array(tokens),
            is_audio=mx.array(is_audio),
            patches=mx.pad(patches, ((0, padding), (0, 0), (0, 0))),
            # Padding points to the second position, since the one before it must exist.
            targets=mx.maximum(positions, 1),
            target_patch=at_targets(number),
            previous_patch=at_targets(previous),
            is_last=at_targets(last),
            weights=mx.array(np.pad(np.ones(targets), (0, missing)).astype(np.float32)),
        )


def padding_multiple(positions: int) -> int:
    """Multiple to which lengths are padded, so that few shapes are compiled.

    positions: of the longest row. A power of 2, at least 8, and above 64 positions less than an
    eighth of them.
    """
    return max(8, (1 << (positions - 1).bit_length()) >> 4)


def _padded(length: int, multiple: int) -> int:
    """The next multiple."""
    return -(-length // multiple) * multiple
