"""Makes the voice for any English text: all stages, each going on from where it stopped.

  python benchmarks/demo_voice/build_english.py FOLDER [--quick]

It begins with the package's voice; where `mlx_voxcpm2/english` and `trained` are missing, with
nothing. Each stage writes to FOLDER/logs/STAGE.log; stages that have ended, which FOLDER/ended.txt
lists, are skipped. Encoder and decoder of the AudioVAE are trained at the same time as the network
that speaks, each on half of the cores.

--quick tries all stages with few steps and sentences, and writes the voice, which can't speak, to
FOLDER/english. Exit status is that of the first stage that fails; a measurement that misses its
goal does not end the build.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
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
    voice: int = 10_000
    voice_batch: int = 32
    predicted: int = 12
    decoder_in_voices: int = 1500
    encoder_in_voices: int = 1400
    measured: int = 200
    measured_in_modes: int = 16


# The voice has more steps than those in which only the encoder learns, and all speech is given.
QUICK = Sizes(
    parts=4,
    decoder=40,
    encoder=40,
    reader=40,
    reader_batch=8,
    voice=1020,
    voice_batch=8,
    predicted=1,
    decoder_in_voices=20,
    encoder_in_voices=20,
    measured=4,
    measured_in_modes=1,
)


Command = list[str]
"""A script and its arguments."""
Turn = list[list[Command]]
"""Sequences of commands that run beside each other."""


def stages(folder: Path, sizes: Sizes, has_voice: bool, voice: str) -> list[Turn]:
    """All stages in turns. has_voice: whether the package has the voice already."""
    halves, place = "train_vae_halves.py", folder
    sound, network, decoder, encoder = [], [], 0, 0
    if not has_voice:
        decoder, encoder = sizes.decoder, sizes.encoder
        sound = [
            [halves, "decoder", place, "--steps", decoder, "--batch", 3],
            [halves, "encoder", place, "--steps", encoder],
            ["evaluate_vae.py", place, "--count", sizes.measured, "--known"],
            ["evaluate_vae.py", place, "--count", sizes.measured],
        ]
        network = [
            ["train_reader.py", place, "--steps", sizes.reader, "--batch", sizes.reader_batch]
        ]
    of_voice = ["--steps", sizes.voice, "--batch", sizes.voice_batch, "--rate", 0.012]
    network += [
        ["train_voice.py", place, "--voices", *of_voice],
        ["predicted_speech.py", place, "--parts", sizes.predicted],
    ]
    in_voices = ["--voices", "--rate", 3e-4, "--steps"]
    decoder, encoder = decoder + sizes.decoder_in_voices, encoder + sizes.encoder_in_voices
    turns = [
        [[["labels.py", place], ["speech_corpus.py", place, "--parts", sizes.parts]]],
        [sound, network],
        [
            [[halves, "decoder", place, "--batch", 3, *in_voices, decoder]],
            [[halves, "encoder", place, *in_voices, encoder]],
        ],
        [[["export_speech.py", place, *([] if voice == "english" else [voice])]]],
        [
            [["evaluate_speech.py", voice, "--count", sizes.measured]],
            [["evaluate_modes.py", voice, place, "--count", sizes.measured_in_modes]],
        ],
    ]
    return [
        [[[str(word) for word in command] for command in commands] for commands in turn if commands]
        for turn in turns
    ]


class Build:
    """Runs commands that have not ended yet in FOLDER."""

    def __init__(self, folder: Path):
        self.logs, self.ended = folder / "logs", folder / "ended.txt"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.ended.touch()

    def run_turn(self, turn: Turn) -> list[int]:
        """Status of each sequence; see `run_in_order`."""
        ended = self.ended.read_text(encoding="utf-8").splitlines()
        left = [[each for each in commands if " ".join(each) not in ended] for commands in turn]
        left = [commands for commands in left if commands]
        threads = max(1, (os.cpu_count() or 1) // max(1, len(left)))
        with ThreadPoolExecutor() as pool:
            return list(pool.map(partial(self.run_in_order, threads=threads), left))

    def run_in_order(self, commands: list[Command], threads: int) -> int:
        """Status of the first measurement that misses its goal, or 0.

        Raises SystemExit with the status of another stage that fails.
        """
        environment, missed = os.environ | {"OMP_NUM_THREADS": str(threads)}, 0
        for script, *rest in commands:
            began, path, name = time.monotonic(), Path(__file__).with_name(script), " ".join(rest)
            with (self.logs / f"{path.stem}.log").open("a", encoding="utf-8") as log:
                command = [sys.executable, path, *rest]
                status = subprocess.run(command, stdout=log, stderr=log, env=environment).returncode
            minutes = (time.monotonic() - began) / 60
            print(f"{script} {name}: {minutes:.1f} minutes, status {status}", flush=True)
            if status and not script.startswith("evaluate"):
                raise SystemExit(status)
            missed = missed or status
            if not status:
                with self.ended.open("a", encoding="utf-8") as ended:
                    ended.write(f"{script} {name}\n")
        return missed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true", help="few steps, to try all stages")
    arguments = parser.parse_args()
    folder, has_voice = arguments.folder, BUILT_IN["english"].is_dir()
    sizes, voice = Sizes(), "english"
    if arguments.quick:
        sizes, voice = QUICK, str(folder / "english")
    build = Build(folder)
    missed = [build.run_turn(turn) for turn in stages(folder, sizes, has_voice, voice)]
    raise SystemExit(max([0, *chain.from_iterable(missed)]))


if __name__ == "__main__":
    main()
