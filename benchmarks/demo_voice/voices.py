"""Further voices, made from the teacher's speech: other pitches and lengths of the vocal tract.

A voice's envelope is the teacher's with its frequencies multiplied, as a longer or shorter vocal
tract moves the formants, and its pitch is multiplied too. Its sound is as free as the teacher's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from acoustics import HIGHEST, LOWEST, Acoustics, centres, to_mel


@dataclass(frozen=True)
class Voice:
    pitch: float
    """Factor on the teacher's pitch, about 200 Hz."""
    formants: float
    """Factor on the frequencies of the teacher's envelope."""
    descriptions: tuple[str, ...]
    """Descriptions of the voice, to stand in parentheses before a text; in lower case."""
    share: float
    """Fraction of the training examples."""


TEACHER = "woman"
VOICES = {
    TEACHER: Voice(
        1.0, 1.0, ("woman", "a woman", "female voice", "a woman with a clear voice"), 0.36
    ),
    # 125 Hz: a pitch between two numbers of whole cycles would alternate between them.
    "man": Voice(0.625, 0.86, ("man", "a man", "male voice", "a man with a low voice"), 0.36),
    "child": Voice(1.35, 1.14, ("child", "a child", "young voice", "a child's high voice"), 0.28),
}


def in_voice(acoustics: Acoustics, voice: Voice) -> Acoustics:
    """The teacher's acoustics in another voice."""
    if voice.formants == 1 and voice.pitch == 1:
        return acoustics
    places = to_mel(np.clip(centres() / voice.formants, LOWEST, HIGHEST))
    bands = to_mel(centres())
    envelope = np.stack([np.interp(places, bands, row) for row in acoustics.envelope])
    return Acoustics(envelope, acoustics.aperiodicity, acoustics.pitch * voice.pitch)
