"""A pitch that follows a given one and completes whole cycles in each latent.

An AudioVAE's decoder has no clock: latents of natural speech must encode the phase of the pitch,
which a small AudioVAE hardly learns. If each latent of 40 ms holds a whole number of cycles (its
mean pitch is a multiple of 25 Hz), every harmonic begins it with the same phase, and the audio
depends on the latents alone.
"""

from __future__ import annotations

import numpy as np
from acoustics import LATENT, POINTS, SAMPLE_RATE

FEWEST, MOST = 4, 14
"""Fewest and most cycles per latent: 100 to 350 Hz."""
_BETWEEN = 0.05
"""Weight of unvoiced latents, whose pitch is interpolated."""


def cycles_of(pitch: np.ndarray, smoothness: float = 0.5) -> np.ndarray:
    """Whole number of cycles of each latent (P / POINTS,), float64, of a pitch (P,) in Hz.

    The pitch is 0 where unvoiced. The cycles minimise the squared distance from it plus
    `smoothness` times the squared differences between neighbours (Viterbi 1967,
    doi:10.1109/TIT.1967.1054010).
    """
    by_latent = pitch.reshape(-1, POINTS)
    voiced = by_latent > 0
    spoken = voiced.any(1)
    if not spoken.any():
        return np.full(len(by_latent), 8.0)
    mean = by_latent.sum(1)[spoken] / voiced.sum(1)[spoken] * LATENT / SAMPLE_RATE
    wanted = np.interp(np.arange(len(by_latent)), np.flatnonzero(spoken), mean)
    choices = np.arange(FEWEST, MOST + 1, dtype=np.float64)
    weights = np.where(spoken, 1.0, _BETWEEN)
    costs = weights[:, None] * (choices[None] - wanted[:, None]) ** 2
    changes = smoothness * (choices[:, None] - choices[None]) ** 2
    return choices[_cheapest_path(costs, changes)]


def _cheapest_path(costs: np.ndarray, changes: np.ndarray) -> np.ndarray:
    """Cheapest choices (L,) by costs (L, K) and costs of changes (K, K) between neighbours."""
    total, origins = costs[0], []
    for cost in costs[1:]:
        through = total[:, None] + changes
        origins.append(through.argmin(0))
        total = through.min(0) + cost
    path = [int(total.argmin())]
    for origin in reversed(origins):
        path.append(int(origin[path[-1]]))
    return np.array(path[::-1])


def phase_of(cycles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Phase in cycles and frequency in Hz of each sample (L * LATENT,), by cycles (L,).

    Between two latents the frequency is the mean of theirs; inside it is a parabola.
    """
    edges = (np.append(cycles[:1], cycles) + np.append(cycles, cycles[-1:])) / 2
    before, after = edges[:-1, None], edges[1:, None]
    bend = cycles[:, None] - (before + after) / 2
    part = (np.arange(LATENT) + 1) / LATENT
    inside = before * part + (after - before) * part**2 / 2 + bend * part**2 * (3 - 2 * part)
    begun = np.append(0, np.cumsum(cycles)[:-1])[:, None]
    frequency = before + (after - before) * part + 6 * bend * part * (1 - part)
    return (begun + inside).ravel(), frequency.ravel() * SAMPLE_RATE / LATENT
