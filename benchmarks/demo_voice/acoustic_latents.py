"""Latents with a defined meaning, so that an AudioVAE's encoder and decoder can be trained apart.

The first two channels are the pitch: the number of cycles in the latent, and its difference to the
next latent's. The others are principal components of the envelopes and aperiodicities.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from acoustics import APERIODICITY_AT, BANDS, POINTS, Acoustics, synthesize
from whole_cycles import phase_of

LATENTS, PITCH_LATENTS = 40, 2
CYCLES, CYCLES_SCALE = 8.0, 1.5
"""Number of cycles at which the first channel is 0, and the number per unit."""
QUIETEST = -15.0
"""Floor of the log power envelopes."""
_APERIODICITY_WEIGHT = 3.0
_SCALE = 1.5


@dataclass(frozen=True)
class Basis:
    """Principal components: mean (F,), components (C, F), and a component's size per unit (C,)."""

    mean: np.ndarray
    components: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, spoken: list[Acoustics]) -> Basis:
        """Computes the principal components.

        A channel's standard deviation is proportional to the square root of its component's, a
        compromise between equal channels and equal errors of the acoustics.
        """
        features = np.concatenate([_features(each) for each in spoken])
        mean = features.mean(0)
        _, values, components = np.linalg.svd(features - mean, full_matrices=False)
        count = LATENTS - PITCH_LATENTS
        deviations = values[:count] / np.sqrt(len(features))
        return cls(mean, components[:count], _SCALE * np.sqrt(deviations))

    @classmethod
    def load(cls, path: Path) -> Basis:
        file = np.load(path)
        return cls(file["mean"], file["components"], file["sizes"])

    def save(self, path: Path) -> None:
        np.savez(path, mean=self.mean, components=self.components, sizes=self.sizes)

    def latents(self, acoustics: Acoustics, cycles: np.ndarray) -> np.ndarray:
        """Latents (L, LATENTS) float32 of acoustics and cycles (L,)."""
        others = (_features(acoustics) - self.mean) @ self.components.T / self.sizes
        pitch = np.stack([(cycles - CYCLES) / CYCLES_SCALE, np.diff(cycles, append=cycles[-1])], 1)
        return np.concatenate([pitch, others], axis=1).astype(np.float32)

    def acoustics(self, latents: np.ndarray) -> tuple[Acoustics, np.ndarray]:
        """Acoustics of the latents (L, LATENTS), and the cycles (L,)."""
        features = (latents[:, PITCH_LATENTS:] * self.sizes) @ self.components + self.mean
        envelope = features[:, : POINTS * BANDS].reshape(-1, BANDS)
        aperiodicity = features[:, POINTS * BANDS :].reshape(-1, len(APERIODICITY_AT))
        cycles = np.round(latents[:, 0] * CYCLES_SCALE + CYCLES)
        pitch = np.repeat(cycles, POINTS) * 25.0
        aperiodicity = np.clip(aperiodicity / _APERIODICITY_WEIGHT, 0, 1)
        return Acoustics(envelope, aperiodicity, pitch), cycles

    def audio(self, latents: np.ndarray) -> np.ndarray:
        """Audio (L * LATENT,) float32 of the latents (L, LATENTS): the decoder's target."""
        acoustics, cycles = self.acoustics(latents)
        return synthesize(acoustics, *phase_of(cycles))


def _features(acoustics: Acoustics) -> np.ndarray:
    """Features (L, POINTS * (BANDS + frequencies)): the points of each latent side by side."""
    latents = len(acoustics.envelope) // POINTS
    envelope = np.maximum(acoustics.envelope, QUIETEST).reshape(latents, -1)
    aperiodicity = _APERIODICITY_WEIGHT * acoustics.aperiodicity.reshape(latents, -1)
    return np.concatenate([envelope, aperiodicity], axis=1)
