"""Makes the voice for any English text: all stages, each going on from where it stopped.

  python benchmarks/demo_voice/build_english.py FOLDER

It begins with the package's voice; where `mlx_voxcpm2/english` is missing, with nothing. Exit
status is that of the stage that fails; the last two measure the voice.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from mlx_voxcpm2.weights.hub import BUILT_IN

DECODER, ENCODER = 14_000, 5_000
"""Steps of the AudioVAE's halves in the teacher's voice."""
DECODER_IN_VOICES, ENCODER_IN_VOICES = 1_500, 1_400


def stages(folder: Path, has_voice: bool) -> list[list[str]]:
    """Scripts with their arguments. has_voice: whether the package has the voice already."""
    halves, place = "train_vae_halves.py", str(folder)
    found = [["labels.py", place], ["speech_corpus.py", place, "--parts", "60"]]
    decoder = encoder = 0
    if not has_voice:
        decoder, encoder = DECODER, ENCODER
        found += [
            [halves, "decoder", place, "--steps", str(decoder), "--batch", "3"],
            [halves, "encoder", place, "--steps", str(encoder)],
            ["train_reader.py", place, "--steps", "1200"],
        ]
    in_voices = ["--voices", "--rate", "3e-4", "--steps"]
    return [
        *found,
        ["train_voice.py", place, "--voices", "--rate", "0.012", "--steps", "6000"],
        ["predicted_speech.py", place],
        [halves, "decoder", place, "--batch", "3", *in_voices, str(decoder + DECODER_IN_VOICES)],
        [halves, "encoder", place, *in_voices, str(encoder + ENCODER_IN_VOICES)],
        ["export_speech.py", place],
        ["evaluate_speech.py", "english"],
        ["evaluate_modes.py", "english", place],
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    for script, *arguments in stages(folder, BUILT_IN["english"].is_dir()):
        print(script, *arguments, flush=True)
        path = Path(__file__).with_name(script)
        if status := subprocess.run([sys.executable, path, *arguments]).returncode:
            raise SystemExit(status)


if __name__ == "__main__":
    main()
