"""Trains the language model to read before the network learns to speak.

  python benchmarks/demo_voice/train_reader.py FOLDER [--steps N]

FOLDER has labels.py's labels. FOLDER/reader.state is written every 250 steps; the same command
resumes from it.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from labels import read_labels
from pronunciations import pronunciations
from reader import Reader, Readings, batch_size, loss_of, phoneme_error_rate
from sizes import speech_config
from spelling import VOCABULARY, Speller
from training_torch import Run, fast_products, fill, optimizers_of

from mlx_voxcpm2.models.voxcpm2.config import VoxCPM2Config

RATE, WARM_UP, EVERY, LOGGED = 0.02, 200, 250, 50


def load_reader(folder: Path) -> Reader:
    """Reader of FOLDER. Raises FileNotFoundError if there is none."""
    state = folder / "reader.state"
    if not state.exists():
        raise FileNotFoundError(f"{folder} has no reader.state; train it first")
    reader = Reader(VoxCPM2Config.from_dict(speech_config(VOCABULARY))).eval()
    fill(reader, torch.load(state)["average"])
    return reader


def train(folder: Path, steps: int, size: int) -> None:
    torch.manual_seed(0)
    speller, reader = Speller(folder), Reader(VoxCPM2Config.from_dict(speech_config(VOCABULARY)))
    reader.pronounce(pronunciations(folder, speller))
    run = Run(reader, folder / "reader.state", optimizers_of(reader, RATE), steps, WARM_UP)
    readings = Readings(folder, speller)
    held_out, found, began = read_labels(folder, "held"), [], time.time()
    while run.step < steps:
        random = np.random.default_rng(run.step)
        with fast_products():
            loss, parts = loss_of(reader, readings.batch(size, random))
        run.learn(loss)
        found.append(parts.numpy())
        if run.step % LOGGED == 0:
            row = {"step": run.step, "seconds": round(time.time() - began)}
            row |= {"cpu": round(time.process_time())}
            names = ("phonemes", "guide", "right")
            row |= dict(zip(names, np.mean(found, 0).round(3).tolist(), strict=True))
            print(json.dumps(row), flush=True)
            found = []
        if run.step % EVERY == 0 or run.step == steps:
            run.save()
            known, unknown = (
                run.averaged(lambda each, part=part: phoneme_error_rate(each, speller, part))
                for part in (held_out[:50], held_out[-50:])
            )
            row = {"step": run.step, "known words": round(known, 3)}
            print(json.dumps(row | {"unknown words": round(unknown, 3)}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=batch_size, default=48)
    arguments = parser.parse_args()
    train(arguments.folder, arguments.steps, arguments.batch)


if __name__ == "__main__":
    main()
