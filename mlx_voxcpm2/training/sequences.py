"""Examples side by side, in the layouts that the model is trained on.

Upstream: training/packers.py (`AudioFeatureProcessingPacker`). A row is

    text, audio start, patches, audio end
    reference start, reference, reference end, text, audio start, patches, audio end

and a clip that is only a prompt (`is_prompt`) stands between the reference's tokens instead of
audio start and end, without being a target. Shorter rows are filled up on the right, where the
causal language models see nothing of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ..text.tokenizer import AUDIO_END, AUDIO_START, REFERENCE_END, REFERENCE_START


@dataclass(frozen=True)
class Example:
    tokens: list[int]
    """Of the text."""
    patches: np.ndarray
    """(A, P, D): the latents of its speech."""
    reference: np.ndarray | None = None
    """(R, P, D): the latents of a clip in the same voice."""
    is_prompt: bool = False
    """Whether the speech is there to be heard, not to be learnt."""

    @property
    def positions(self) -> int:
        """In a row."""
        before = 0 if self._reference is None else len(self._reference) + 2
        return before + len(self.tokens) + 1 + len(self.patches) + 1

    @property
    def targets(self) -> int:
        """Patches that are learnt. As upstream has it, all are behind a reference."""
        return 0 if self.is_prompt and self._reference is None else len(self.patches)

    @property
    def _reference(self) -> np.ndarray | None:
        return self.reference if self.reference is not None and len(self.reference) else None

    def track(self) -> tuple[list[int], list[np.ndarray]]:
        """The row's tokens, -1 at audio positions, and the pieces of audio in order."""
        hole, reference = [-1], self._reference
        if reference is not None:
            before = [REFERENCE_START, *hole * len(reference), REFERENCE_END]
            ends, pieces = (AUDIO_START, AUDIO_END), [reference, self.patches]
        else:
            before, pieces = [], [self.patches]
            prompt = (REFERENCE_START, REFERENCE_END)
            ends = prompt if self.is_prompt else (AUDIO_START, AUDIO_END)
        speech = [ends[0], *hole * len(self.patches), ends[1]]
        return [*before, *self.tokens, *speech], pieces


@dataclass(frozen=True)
class Sequences:
    """Rows of examples, and where in them the N patches and the M targets are.

    What is learnt at a target is drawn from the hidden states of the position before it.
    """

    tokens: mx.array
    """(B, T), 0 at audio positions and where a row is filled up."""
    is_audio: mx.array
    """(B, T)."""
    patches: mx.array
    """(N, P, D) of the audio positions in order, row after row, float32."""
    targets: mx.array
    """(M,): places among all B * T positions, row after row."""
    own: mx.array
    """(M,): which of the patches is there."""
    before: mx.array
    """(M,): which one is a position earlier, or -1 where that is text."""
    is_last: mx.array
    """(M,) 0 or 1: whether the speech ends with it, which the stop head learns."""
    weights: mx.array
    """(M,) 1, or 0 for what only fills up."""

    @classmethod
    def of(cls, examples: Sequence[Example], multiple: int = 1) -> Sequences:
        """With a `multiple`, T is filled up to multiples of it, N and M to those of twice as much:
        fewer shapes to compile.
        """
        tracks = [example.track() for example in examples]
        width = _up(max(len(tokens) for tokens, _ in tracks), multiple)
        tokens = np.zeros((len(examples), width), np.int32)
        is_audio = np.zeros((len(examples), width), bool)
        is_target = np.zeros((len(examples), width), bool)
        last = np.zeros((len(examples), width), np.int32)
        for row, (example, (track, _)) in enumerate(zip(examples, tracks, strict=True)):
            track = np.array(track)
            tokens[row, : len(track)] = np.maximum(track, 0)
            is_audio[row, : len(track)] = track < 0
            end = len(track) - 1
            is_target[row, end - example.targets : end] = True
            last[row, end - 1] = 1
        patches = np.concatenate([piece for _, pieces in tracks for piece in pieces])
        number = np.cumsum(is_audio).reshape(is_audio.shape) - 1
        previous = np.full_like(number, -1)
        previous[:, 1:] = np.where(is_audio, number, -1)[:, :-1]
        room = multiple if multiple == 1 else 2 * multiple
        targets = int(is_target.sum())
        # One at least, since attention takes no empty batch: there may be prompts only.
        fill = _up(max(targets, 1), room) - targets

        def chosen(values: np.ndarray) -> mx.array:
            return mx.array(np.pad(values[is_target], (0, fill)).astype(np.int32))

        more = _up(len(patches), room) - len(patches)
        return cls(
            mx.array(tokens),
            mx.array(is_audio),
            mx.array(np.pad(patches, ((0, more), (0, 0), (0, 0))).astype(np.float32)),
            # What fills up reads the second position: the one before it has to exist.
            mx.maximum(chosen(np.arange(tokens.size).reshape(tokens.shape)), 1),
            chosen(number),
            chosen(previous),
            chosen(last),
            mx.array(np.pad(np.ones(targets), (0, fill)).astype(np.float32)),
        )


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
