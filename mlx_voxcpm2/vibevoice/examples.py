"""Examples to learn from: a prompt, its voices and the dialogue's audio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ..models.vibevoice.loss import Batch
from ..models.vibevoice.solver import TRAIN_STEPS
from ..schema import check_integer
from .script import LegalTokens
from .voices import VoiceEncoder


@dataclass(frozen=True, eq=False)
class Example:
    """A dialogue to learn.

    prompt: its tokens; means (N_i, D) and semantic (N_i, S): latents of each clip, the voices of
    the prompt in order and the target last. Raises ValueError for voices that do not fit.
    """

    prompt: list[int]
    means: list[np.ndarray]
    semantic: list[np.ndarray]
    legal: LegalTokens

    def __post_init__(self):
        places, given = self.prompt.count(self.legal.frame), sum(map(len, self.means[:-1]))
        if places != given:
            raise ValueError(f"the voices have {given} frames, the prompt has places for {places}")

    @property
    def targets(self) -> int:
        """Number of frames to learn."""
        return len(self.means[-1])

    @property
    def tokens(self) -> list[int]:
        """The whole row."""
        frames = [self.legal.frame] * self.targets
        return [*self.prompt, *frames, self.legal.end, self.legal.stop]

    @property
    def positions(self) -> int:
        """Length of the row."""
        return len(self.prompt) + self.targets + 2

    @property
    def counts(self) -> tuple[int, int]:
        """Numbers of frames and of tokens to learn."""
        frames = sum(map(len, self.means))
        return self.targets, self.positions - 1 - frames

    @property
    def clips(self) -> int:
        """Number of clips, the target among them."""
        return len(self.means)


def make_example(
    encoder: VoiceEncoder,
    legal: LegalTokens,
    prompt_ids: Sequence[int],
    clips: Sequence[np.ndarray],
) -> Example:
    """Example of a prompt and samples (L,) at 24 kHz of its voices and, last, of its target.

    Raises ValueError for clips that hold nothing, and for voices that do not fit the prompt.
    """
    clips = [np.asarray(clip, np.float32).reshape(-1) for clip in clips]
    if not all(len(clip) and np.isfinite(clip).all() for clip in clips):
        raise ValueError("a clip is empty or holds values that are not finite; give other audio")
    means = [np.array(encoder.mean(clip)) for clip in clips]
    semantic = [np.array(encoder.semantic(clip)) for clip in clips]
    return Example(list(prompt_ids), means, semantic, legal)


def make_batch(
    examples: Sequence[Example], spreads: Sequence[np.ndarray] | None = None, multiple: int = 1
) -> Batch:
    """Batch of examples.

    spreads: of each example (N, D), see `Batch.spread`; None for the means. multiple: above 1, T
    is padded to multiples of it, and N, M and K to multiples of twice that, so that there are
    fewer shapes to compile.
    """
    legal = examples[0].legal
    width = _padded(max(example.positions for example in examples), multiple)
    tokens = np.full((len(examples), width), legal.stop, np.int32)
    is_placeholder, is_target = np.zeros(tokens.shape, bool), np.zeros(tokens.shape, bool)
    is_label, is_last = np.zeros(tokens.shape, bool), np.zeros(tokens.shape, bool)
    for row, example in enumerate(examples):
        length, first = example.positions, len(example.prompt)
        tokens[row, :length] = example.tokens
        is_placeholder[row, :length] = tokens[row, :length] == legal.frame
        is_target[row, first : length - 2] = True
        is_label[row, 1:length] = ~is_placeholder[row, 1:length]
        is_last[row, first:length] = True
    number = (np.cumsum(is_placeholder) - 1).reshape(tokens.shape)
    place, multiple = np.arange(tokens.size).reshape(tokens.shape), 2 * multiple
    means = np.concatenate([mean for example in examples for mean in example.means])
    spread = np.zeros_like(means) if spreads is None else np.concatenate(spreads)

    def rows(values: np.ndarray, fill: int = 0) -> mx.array:
        """Values along the first axis, padded."""
        missing = 0 if multiple == 2 else _padded(len(values), multiple) - len(values)
        padding = [(0, missing)] + [(0, 0)] * (values.ndim - 1)
        return mx.array(np.pad(values, padding, constant_values=fill))

    semantic = [each for example in examples for each in example.semantic]
    return Batch(
        tokens=mx.array(tokens),
        is_placeholder=mx.array(is_placeholder),
        means=rows(means),
        spread=rows(spread.astype(np.float32)),
        semantic=rows(np.concatenate(semantic)),
        # Padding points to the second position, since the one before it must exist.
        targets=rows(place[is_target], 1),
        target_latent=rows(number[is_target]),
        target_weights=rows(np.ones(is_target.sum(), np.float32)),
        labels=rows(place[is_label], 1),
        label_weights=rows(np.ones(is_label.sum(), np.float32)),
        follows=rows(is_last[is_label].astype(np.float32)),
    )


def _padded(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple


def drawn_spread(
    example: Example, std: Sequence[float] | np.ndarray, noise: Sequence[np.ndarray] | np.ndarray
) -> np.ndarray:
    """Spread (N, D) of an example's latents: std (C,) of its clips times noise (C, frames, D)."""
    clips = zip(example.means, std, noise, strict=True)
    return np.concatenate([scale * rows[: len(mean)] for mean, scale, rows in clips])


def check_draws(noise: mx.array, timesteps: mx.array, mul: int, frames: int, size: int) -> None:
    """Raise ValueError unless noise and timesteps are for `frames` frames, `mul` times each."""
    check_integer("mul", mul, 1, 1000)
    wanted = (frames * mul, size)
    if noise.shape != wanted or timesteps.shape != wanted[:1]:
        raise ValueError(
            f"noise has shape {noise.shape}, timesteps {timesteps.shape}; they must be {wanted} "
            f"and {wanted[:1]}"
        )
    if not ((timesteps >= 0) & (timesteps < TRAIN_STEPS)).all().item():
        raise ValueError(f"timesteps must be from 0 to {TRAIN_STEPS - 1}")
