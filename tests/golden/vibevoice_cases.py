"""Inputs of the VibeVoice goldens that `vibevoice_checkpoints.uniform` does not make."""

import numpy as np
import vibevoice_checkpoints as tiny

PROMPTS = (
    (tiny.SCRIPT, [2, 3]),
    ("Speaker 0: Just text.\nSpeaker 3: Four.", []),
    ("speaker 2:   spaced   out  \nSPEAKER 1: x: y: z", [2]),
)
"""Scripts, and the frames of their voices."""
TIMES = (0.0, 100.0, 500.0, 998.0, 999.0)
SOLVER_STEPS = (1, 2, 5, 10, 14, 15, 26)
LEVELS = {"usual": 0.1, "quiet": 3e-4, "peaky": 0.01, "silent": 0.0}
"""Root mean squares of the clips to be levelled."""


def field(x: np.ndarray, t: float) -> np.ndarray:
    """A velocity field for the solver, of x (B, D) and the timestep."""
    v = np.tanh(0.7 * np.roll(x, 1, -1)) - 0.2 * x + 0.1 * np.sin(t / 100)
    return v.astype(np.float32)


def levelled(name: str) -> np.ndarray:
    """Samples (200,) to be levelled; "peaky" has one sample at full scale."""
    samples = tiny.uniform("loudness", 200, size=LEVELS[name])
    if name == "peaky":
        samples[100] = 1.0
    return samples
