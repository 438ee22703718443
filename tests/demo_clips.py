"""Clips for tests of the demo voice (tests/golden/demo_voice/record.py), and their recogniser."""

import json
import sys
from pathlib import Path

import numpy as np
import soundfile

sys.path.append(str(Path(__file__).parent.parent / "benchmarks" / "demo_voice"))

from measures import Clip, compare
from recogniser import recognise

GOLDEN = Path(__file__).parent / "golden" / "demo_voice"
RECORDED = json.loads((GOLDEN / "clips.json").read_text(encoding="utf-8"))
"""Clips by speaker: their words, other words, and each speaker's pitch for both."""


def read_clip(speaker: str) -> Clip:
    sound, rate = soundfile.read(GOLDEN / f"{speaker}.ogg", dtype="float32")
    return Clip(speaker, RECORDED[speaker]["says"], sound, rate)


def slips(said: list[str], sound: np.ndarray, rate: int) -> int:
    """Number of wrong, missing and added words in the transcript of sound (samples,)."""
    out = compare([said], [recognise(np.array(sound), rate)])
    return out.substitutions + out.deletions + out.insertions
