"""Inputs of a training step of the tiny VibeVoice, shared by the golden's recorder and the tests.

As in `vibevoice_checkpoints`, all numbers are made by numpy from names.
"""

from pathlib import Path

import numpy as np
import vibevoice_checkpoints as tiny

SEED, MUL, RATE, DECAY, SCALE, WEIGHTS = 3, 4, 1e-3, 0.01, 2.0, {"diff": 1.4, "ce": 0.04}
LINES = (
    {"audio": "first", "text": tiny.SCRIPT, "voices": ["one", "two"]},
    {"audio": "second", "text": "Speaker 1: Alone, and longer."},
)
FRAMES = {"first": 2.7, "second": 4, "one": 1.4, "two": 2}
"""Durations of the clips in frames."""


def clip(name: str, hop: int) -> np.ndarray:
    """Samples of a clip at 24 kHz."""
    return tiny.sound(f"training.{name}", round(FRAMES[name] * hop))


def factors(path: str, inputs: int, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """A (1, in) and B (out, 1) of a layer's adapter; neither is zero."""
    a = tiny.uniform(f"lora_A {path}", 1, inputs, size=0.5 / inputs**0.5)
    return a, tiny.uniform(f"lora_B {path}", outputs, 1, size=0.2)


def write_data(folder: Path, hop: int, count: int = len(LINES)) -> Path:
    """Writes the clips and their manifest, whose path it returns."""
    import json

    import checkpoints

    folder.mkdir(parents=True, exist_ok=True)
    for name in FRAMES:
        checkpoints.write_wav(folder / f"{name}.wav", clip(name, hop), 24000)
    lines = [
        line
        | {"audio": f"{line['audio']}.wav"}
        | ({"voices": [f"{name}.wav" for name in line["voices"]]} if "voices" in line else {})
        for line in LINES[:count]
    ]
    manifest = folder / "data.jsonl"
    manifest.write_text("\n".join(map(json.dumps, lines)))
    return manifest
