"""Options of a dialogue's generation."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace

from ..models.vibevoice.solver import MOST_STEPS
from ..settings import check_settings, setting

CFG_VALUE, STEPS = 1.3, 10
"""Guidance and solver steps where a checkpoint names none: those of Microsoft's demonstration."""


@dataclass(frozen=True)
class DialogueOptions:
    """How to generate a dialogue. Raises ValueError for a value out of range.

    cfg_value: how closely the sound follows the text and the voices; at 1 there is no guidance,
    which takes less time. None, as inference_timesteps: what the checkpoint's
    generation_config.json says, else 1.3 and 10.
    inference_timesteps: solver steps per frame of 133 ms.
    max_tokens: frames and control tokens after which the dialogue must end; None for twice the
    prompt's, at most what fits into the model's positions.
    seed: None draws one, which the result reports.
    level: bring voices given as clips to the level of -25 dB that the model was trained on.
    sample: draw the voices' latents from their distribution, as Microsoft's code does, rather than
    take its mean.
    """

    cfg_value: float | None = setting(None, "number", "guidance", low=0, high=100)
    inference_timesteps: int | None = setting(
        None, "integer", "solver steps per frame", low=1, high=MOST_STEPS
    )
    max_tokens: int | None = setting(
        None, "integer", "units of 0.133 s after which the dialogue must end", low=1
    )
    seed: int | None = setting(
        None, "integer", "number that makes the same speech again", low=0, high=2**64 - 1
    )
    level: bool = setting(True, "switch", "bring voices to the usual level")
    sample: bool = setting(True, "switch", "draw the voices' latents, not their mean")

    def __post_init__(self):
        check_settings(self)

    def with_seed(self) -> DialogueOptions:
        """Copy with a seed, drawn if there is none, short enough to be typed again."""
        return self if self.seed is not None else replace(self, seed=secrets.randbits(32))
