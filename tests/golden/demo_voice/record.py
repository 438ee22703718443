"""Records what the tests of the demo voice compare with: clips to clone, and pitches.

  python tests/golden/demo_voice/record.py

Needs espeak-ng and pyworld, so that the tests don't.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import soundfile

HERE = Path(__file__).parent
sys.path.append(str(HERE.parents[2] / "benchmarks" / "demo_voice"))

from evaluate import clip, pitches_of  # noqa: E402
from speech import words_of  # noqa: E402

# What a speaker's clip says, and other words for that voice.
CLIPS = {
    "bass": ("good morning seven open", "please stop red water"),
    "tenor": ("coffee today nine left", "hello six blue evening"),
    "alto": ("七二四九", "五零八三"),
    "soprano": ("thanks world four green", "yes music two right"),
}


def main() -> None:
    recorded = {}
    for speaker, texts in CLIPS.items():
        said, words = map(words_of, texts)
        made = clip(speaker, said)
        soundfile.write(HERE / f"{speaker}.ogg", made.sound, made.sample_rate)
        pitches = {name: round(found, 1) for name, found in pitches_of(words).items()}
        own = {name: round(found, 1) for name, found in pitches_of(said).items()}
        recorded[speaker] = {"says": said, "own_pitches": own, "words": words, "pitches": pitches}
    text = json.dumps(recorded, indent=1, ensure_ascii=False)
    (HERE / "clips.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
