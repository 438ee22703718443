"""Trains the language model to read before the network learns to speak.

  python benchmarks/demo_voice/train_reader.py FOLDER [--steps N]
  python benchmarks/demo_voice/train_reader.py FOLDER --store

FOLDER has labels.py's labels. FOLDER/reader.state is written every 250 steps; the same command
resumes from it. --store writes the weights so far into `trained/`, at 16 bits, once the gate is
passed.
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
from reader import Reader, Readings, loss_of, phoneme_error_rate
from safetensors.torch import load_file
from sizes import speech_config
from speech_corpus import TRAINED
from spelling import VOCABULARY, Speller
from training_torch import Run, fast_products, fill, optimizers_of, store_at_16_bits

from mlx_voxcpm2.models.voxcpm2.config import VoxCPM2Config

RATE, WARM_UP, EVERY, LOGGED = 0.02, 200, 250, 50


def load_reader(folder: Path) -> Reader:
    """Reader of FOLDER, or else the stored one. Raises FileNotFoundError if there is none."""
    reader = Reader(VoxCPM2Config.from_dict(speech_config(VOCABULARY))).eval()
    state, stored = folder / "reader.state", TRAINED / "reader.safetensors"
    if state.exists():
        fill(reader, torch.load(state)["average"])
    elif stored.exists():
        reader.load_state_dict(load_file(stored))
    else:
        raise FileNotFoundError(f"{folder} has no reader.state; train it first")
    return reader


def store_reader(folder: Path) -> Path:
    """Writes the averaged weights where `load_reader` finds them without FOLDER."""
    path = TRAINED / "reader.safetensors"
    store_at_16_bits(load_reader(folder), path)
    return path


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
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--store", action="store_true", help="the weights so far in trained/")
    arguments = parser.parse_args()
    if arguments.store:
        return print(store_reader(arguments.folder))
    train(arguments.folder, arguments.steps, arguments.batch)


if __name__ == "__main__":
    main()
