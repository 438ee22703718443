"""Trains the language model to read before the network learns to speak.

  python benchmarks/demo_voice/train_reader.py FOLDER [--steps N]

FOLDER has labels.py's labels. FOLDER/reader.safetensors is written every 250 steps; the same
command resumes from it. The phonemes' embedding and output layer are discarded afterwards.
"""

from __future__ import annotations

from reader import Batch, Reader, loss_of  # before MLX  # isort: skip

import argparse
import json
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from labels import PATCH, PHONEMES, PUNCTUATION, SILENCE, SPACE, STRESS, Reading, read_labels
from mlx.utils import tree_flatten, tree_unflatten
from sizes import speech_config
from spelling import AUDIO_START, VOCABULARY, is_spellable, spell

from mlx_voxcpm2.models.voxcpm2.config import VoxCPM2Config

WORD_BATCHES = 0.3
"""Fraction of batches that are word sequences instead of sentences."""
WARM_UP, EVERY, LOGGED = 200, 250, 50


def read_aloud(reader: Reader, reading: Reading) -> np.ndarray:
    """Greedy phonemes (N, PATCH) of as many patches as the teacher takes."""
    lm, cache, made = reader.base_lm, reader.base_lm.make_cache(), []
    x = lm.embed(mx.array([[*spell(reading.text), AUDIO_START]]))
    for _ in reading.phonemes:
        hidden = lm(x, cache, output_positions=slice(-1, None))
        phonemes = reader.head(hidden).reshape(PATCH, PHONEMES).argmax(-1)
        made.append(np.array(phonemes))
        x = reader.embed_phonemes(phonemes)[None, None]
    return np.stack(made)


def phonemes_of(phonemes: np.ndarray) -> list[int]:
    """Phonemes without silence, marks and repetitions."""
    flat = phonemes.ravel().tolist()
    runs = [each for index, each in enumerate(flat) if index == 0 or flat[index - 1] != each]
    return [each for each in runs if each not in {SILENCE, SPACE} | PUNCTUATION | STRESS]


def phoneme_error_rate(reader: Reader, readings: Sequence[Reading]) -> float:
    """Phoneme error rate of free-running reading."""
    pairs = [
        (phonemes_of(each.phonemes), phonemes_of(read_aloud(reader, each))) for each in readings
    ]
    return sum(edits(*pair) for pair in pairs) / sum(len(wanted) for wanted, _ in pairs)


def edits(wanted: Sequence[int], got: Sequence[int]) -> int:
    """Edit distance (Levenshtein 1966)."""
    row = list(range(len(got) + 1))
    for number, one in enumerate(wanted, 1):
        above, row = row, [number]
        for index, other in enumerate(got):
            row.append(min(above[index] + (one != other), above[index + 1] + 1, row[-1] + 1))
    return row[-1]


def optimizer_of(steps: int) -> optim.Optimizer:
    """Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) for the layers' matrices, AdamW
    for the rest."""

    def rate(highest: float):
        def at(step: mx.array) -> mx.array:
            decay = (1 + mx.cos(math.pi * mx.minimum(1, step / steps))) / 2
            return highest * mx.minimum(1, (step + 1) / WARM_UP) * (0.02 + 0.98 * decay)

        return at

    return optim.MultiOptimizer(
        [
            optim.Muon(rate(0.02), weight_decay=0.0),
            optim.AdamW(rate(2e-3), betas=[0.9, 0.98], weight_decay=0.01),
        ],
        [lambda name, weight: ".layers." in name and weight.ndim == 2],
    )


class Run:
    """Training state of a reader, saved and resumed."""

    def __init__(self, folder: Path, steps: int):
        mx.random.seed(0)
        self.folder, self.step = folder, 0
        self.reader = Reader(VoxCPM2Config.from_dict(speech_config(VOCABULARY)))
        self.optimizer = optimizer_of(steps)
        self.optimizer.init(self.reader.trainable_parameters())
        if (folder / "reader.safetensors").exists():
            stored = mx.load(str(folder / "reader.safetensors"))
            self.step = int(stored.pop("step"))
            weights, state = ({}, {})
            for name, value in stored.items():
                part, _, rest = name.partition(".")
                (weights if part == "reader" else state)[rest] = value
            self.reader.load_weights(list(weights.items()))
            self.optimizer.state = tree_unflatten(list(state.items()))

    def save(self) -> None:
        part = self.folder / "reader.part.safetensors"
        stored = {f"reader.{name}": each for name, each in tree_flatten(self.reader.parameters())}
        stored |= {f"state.{name}": each for name, each in tree_flatten(self.optimizer.state)}
        mx.save_safetensors(str(part), stored | {"step": mx.array(self.step)})
        os.replace(part, self.folder / "reader.safetensors")

    def learn(self, batch: Batch) -> list[float]:
        learn = nn.value_and_grad(self.reader, loss_of)
        (_, parts), gradients = learn(self.reader, batch)
        gradients, _ = optim.clip_grad_norm(gradients, 1.0)
        self.optimizer.update(self.reader, gradients)
        mx.eval(self.reader.parameters(), self.optimizer.state, parts)
        self.step += 1
        return parts.tolist()


def train(folder: Path, steps: int, size: int) -> None:
    run, random = Run(folder, steps), None
    sources = [
        sorted(
            (each for each in read_labels(folder, name) if is_spellable(each.text)),
            key=lambda each: len(each.text) + len(each.phonemes),
        )
        for name in ("sentences", "words")
        if (folder / "labels" / f"{name}.json").exists()
    ]
    held_out, found, began = read_labels(folder, "held"), [], time.time()
    while run.step < steps:
        random = np.random.default_rng(run.step)
        source = sources[-1 if random.random() < WORD_BATCHES else 0]
        start = random.integers(len(source) - size)
        found.append(run.learn(Batch(source[start : start + size], random)))
        if run.step % LOGGED == 0:
            row = {"step": run.step, "seconds": round(time.time() - began)}
            row |= {"cpu": round(time.process_time())}
            names = ("phonemes", "guide", "right")
            row |= dict(zip(names, np.mean(found, 0).round(3).tolist(), strict=True))
            print(json.dumps(row), flush=True)
            found = []
        if run.step % EVERY == 0 or run.step == steps:
            run.save()
            parts = [
                loss_of(run.reader, Batch(held_out[at : at + 25]))[1] for at in range(0, 250, 25)
            ]
            known, unknown = (
                round(phoneme_error_rate(run.reader, each), 3)
                for each in (held_out[:25], held_out[-25:])
            )
            row = {"step": run.step, "held": np.mean(parts, 0).round(3).tolist()}
            row |= {"known words": known, "unknown words": unknown}
            print(json.dumps(row), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--batch", type=int, default=32)
    arguments = parser.parse_args()
    train(arguments.folder, arguments.steps, arguments.batch)


if __name__ == "__main__":
    main()
