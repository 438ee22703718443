"""espeak-ng's clips that the tests of the demo voice use (tests/golden/demo_voice/record.py)."""

import json
import sys
from pathlib import Path

import soundfile

sys.path.append(str(Path(__file__).parent.parent / "benchmarks" / "demo_voice"))

from measures import Clip

GOLDEN = Path(__file__).parent / "golden" / "demo_voice"
RECORDED = json.loads((GOLDEN / "clips.json").read_text(encoding="utf-8"))
"""Of each speaker: what the clip says, other words, and each speaker's pitch for both."""


def read_clip(speaker: str) -> Clip:
    sound, rate = soundfile.read(GOLDEN / f"{speaker}.ogg", dtype="float32")
    return Clip(speaker, RECORDED[speaker]["says"], sound, rate)
