"""A synthetic clip that is fit for a voice, for the tests to spoil."""

import numpy as np

RATE = 16_000
USUAL = 0.08
"""Root mean square of its words."""


def speech(seconds: float = 2.5, level: float = USUAL, pitch: float = 140.0) -> np.ndarray:
    """float32 (L,) at 16 kHz: buzzing words of 0.3 s with pauses of 0.05 s, and quiet hiss."""
    time = np.arange(round(seconds * RATE)) / RATE
    buzz = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 6))
    buzz *= level / np.sqrt(np.mean(buzz**2))
    hiss = np.random.RandomState(0).uniform(-1, 1, len(time)) * level / 300
    return (np.where(time % 0.35 < 0.3, buzz, 0) + hiss).astype(np.float32)
