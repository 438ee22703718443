"""Makes the voice for any English text: all stages, each going on from where it stopped.

  python benchmarks/demo_voice/build_english.py FOLDER [--quick]

It begins with the package's voice; where `mlx_voxcpm2/english` and `trained` are missing, with
nothing. --quick tries all stages with few steps and sentences, and writes the voice, which can't
speak, to FOLDER/english. Exit status is that of the stage that fails; the last two measure the
voice.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from mlx_voxcpm2.weights.hub import BUILT_IN


@dataclass(frozen=True)
class Sizes:
    """Numbers of parts of the corpus, steps, and sentences of a batch or a measurement."""

    parts: int = 60
    decoder: int = 14_000
    """Steps in the teacher's voice, as the encoder's."""
    encoder: int = 5000
    reader: int = 1200
    reader_batch: int = 48
    voice: int = 6000
    voice_batch: int = 32
    predicted: int = 12
    decoder_in_voices: int = 1500
    encoder_in_voices: int = 1400
    measured: int = 200
    measured_in_modes: int = 25


# The voice has more steps than those in which only the encoder learns, and all speech is given.
QUICK = Sizes(
    parts=4,
    decoder=40,
    encoder=40,
    reader=40,
    reader_batch=4,
    voice=1020,
    voice_batch=2,
    predicted=1,
    decoder_in_voices=20,
    encoder_in_voices=20,
    measured=4,
    measured_in_modes=1,
)


def stages(folder: Path, sizes: Sizes, has_voice: bool, voice: str) -> list[list[str]]:
    """Scripts with their arguments. has_voice: whether the package has the voice already."""
    halves, place = "train_vae_halves.py", str(folder)
    begun, decoder, encoder = [], 0, 0
    if not has_voice:
        decoder, encoder = sizes.decoder, sizes.encoder
        begun = [
            [halves, "decoder", place, "--steps", decoder, "--batch", 3],
            [halves, "encoder", place, "--steps", encoder],
            ["train_reader.py", place, "--steps", sizes.reader, "--batch", sizes.reader_batch],
        ]
    in_voices = ["--voices", "--rate", 3e-4, "--steps"]
    decoder, encoder = decoder + sizes.decoder_in_voices, encoder + sizes.encoder_in_voices
    of_voice = ["--steps", sizes.voice, "--batch", sizes.voice_batch, "--rate", 0.012]
    found = [
        ["labels.py", place],
        ["speech_corpus.py", place, "--parts", sizes.parts],
        *begun,
        ["train_voice.py", place, "--voices", *of_voice],
        ["predicted_speech.py", place, "--parts", sizes.predicted],
        [halves, "decoder", place, "--batch", 3, *in_voices, decoder],
        [halves, "encoder", place, *in_voices, encoder],
        ["export_speech.py", place, *([] if voice == "english" else [voice])],
        ["evaluate_speech.py", voice, "--count", sizes.measured],
        ["evaluate_modes.py", voice, place, "--count", sizes.measured_in_modes],
    ]
    return [[str(word) for word in command] for command in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true", help="few steps, to try all stages")
    arguments = parser.parse_args()
    folder, has_voice = arguments.folder, BUILT_IN["english"].is_dir()
    sizes, voice = Sizes(), "english"
    if arguments.quick:
        sizes, voice = QUICK, str(folder / "english")
    failed = 0
    for script, *rest in stages(folder, sizes, has_voice, voice):
        print(script, *rest, flush=True)
        path = Path(__file__).with_name(script)
        failed = subprocess.run([sys.executable, path, *rest]).returncode or failed
        if failed and not script.startswith("evaluate"):
            break
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
