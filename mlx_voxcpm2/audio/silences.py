"""Where to cut long speech: in its pauses."""

from __future__ import annotations

import numpy as np

from .clips import FRAME_SECONDS, Clip

_PAUSE_SECONDS = 0.3
"""Length of sound whose mean level decides where it is quietest: a short pause between words."""


def cut_at_silences(samples: np.ndarray, sample_rate: int, longest: float) -> list[tuple[int, int]]:
    """Bounds of pieces of samples (L,) of at most `longest` seconds, each cut at a quiet place.

    The place is the quietest one in the last third of what a piece may have, the latest of equal
    ones. Frames are of `FRAME_SECONDS`.
    """
    frame, most = round(FRAME_SECONDS * sample_rate), round(longest * sample_rate)
    if most < 3 * frame:
        raise ValueError(f"longest is {longest} s; give at least {3 * FRAME_SECONDS} s")
    bounds, start = [], 0
    while len(samples) - start > most:
        first = start + most - most // 3
        end = first + _quietest(samples[first : start + most], frame)
        bounds.append((start, end))
        start = end
    return [*bounds, (start, len(samples))]


def is_silent(samples: np.ndarray, sample_rate: int) -> bool:
    """Whether samples (L,) hold nothing that could be speech."""
    return not len(samples) or Clip(samples, sample_rate).is_silent


def _quietest(samples: np.ndarray, frame: int) -> int:
    """Index of the middle of the quietest part of samples (L,), which is never 0."""
    count = len(samples) // frame
    frames = samples[: count * frame].reshape(count, frame).astype(np.float64)
    width = min(round(_PAUSE_SECONDS / FRAME_SECONDS), count)
    sums = np.convolve(np.mean(frames**2, axis=1), np.ones(width), "valid")
    last = len(sums) - 1 - int(np.argmin(sums[::-1]))
    return max(1, (2 * last + width) * frame // 2)
