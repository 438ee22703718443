"""Trains the whole network except the AudioVAE.

  python benchmarks/demo_voice/train_voice.py FOLDER [--steps N]

FOLDER has speech_corpus.py's speech and train_reader.py's reader, whose language model is the
initial one. FOLDER/voice.safetensors is written every 250 steps; the same command resumes from it.
The loss is that of the flow, of the stop head and of labels: the phonemes of the next patch,
predicted by a discarded layer from the diffusion transformer's condition.
"""

from __future__ import annotations

import mlx_voxcpm2  # noqa: F401  # before MLX, so that it finds a fast BLAS on Linux  # isort: skip

import argparse
import json
import math
import os
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from labels import PATCH, PHONEMES, reading_of_speech
from mlx.utils import tree_flatten, tree_unflatten
from sizes import speech_config
from speech_corpus import HELD, facts_of, latents_and_audio, part_names
from spelling import VOCABULARY, is_spellable, spell
from train_reader import optimizer_of

from mlx_voxcpm2.models.voxcpm2.config import VoxCPM2Config
from mlx_voxcpm2.models.voxcpm2.network import VoxCPM2Model
from mlx_voxcpm2.training.losses import Draws, states_before_targets, velocity_error
from mlx_voxcpm2.training.sequences import Example, Sequences

LABEL_WEIGHT, STOP_WEIGHT = 0.5, 0.1
CONTEXT_NOISE = 0.15
"""Standard deviation of noise added to the context's latents, so that the text is not ignored."""
EVERY, LOGGED = 250, 25
Spoken = tuple[Example, np.ndarray]
"""An example, and the phonemes of its patches (N, PATCH)."""


def spoken_examples(folder: Path, name: str) -> list[Spoken]:
    latents, _, ends = latents_and_audio(folder, name)
    found = []
    spans = pairwise([0, *ends])
    for facts, (begin, end) in zip(facts_of(folder, name), spans, strict=True):
        if not is_spellable(facts["text"]):
            continue
        own = latents[begin:end]
        aligned = reading_of_speech(**facts, latents=len(own))
        own = np.pad(own, ((0, -len(own) % PATCH), (0, 0)), mode="edge")
        patches = own.reshape(-1, PATCH, own.shape[1])
        found.append((Example(spell(facts["text"]), patches), aligned.phonemes))
    return sorted(found, key=lambda each: each[0].positions)


class Speaker(nn.Module):
    """The network, and a layer that predicts phonemes from its condition."""

    def __init__(self, config: VoxCPM2Config):
        super().__init__()
        self.network = VoxCPM2Model(config)
        token = self.network.feat_encoder.special_token
        self.network.feat_encoder.special_token = mx.random.normal(token.shape)
        self.network.audio_vae.freeze()
        self.names = nn.Linear(2 * config.dit_config.hidden_dim, PATCH * PHONEMES)

    def begin_with(self, reader: Path) -> None:
        """Loads the language model of train_reader.py."""
        stored, prefix = mx.load(str(reader)), "reader.base_lm."
        weights = {
            name.removeprefix(prefix): value
            for name, value in stored.items()
            if name.startswith(prefix)
        }
        self.network.base_lm.load_weights(list(weights.items()))


def loss_of(
    speaker: Speaker, context: Sequences, sequences: Sequences, phonemes: mx.array, draws: Draws
) -> tuple[mx.array, mx.array]:
    """Loss, and its parts: flow, stop head, labels, and the accuracy of the phonemes (M, PATCH)."""
    network, weights = speaker.network, sequences.weights
    hidden, residual = states_before_targets(network, context)

    def mean(values: mx.array) -> mx.array:
        return mx.sum(values * weights) / mx.maximum(mx.sum(weights), 1)

    error = velocity_error(network, hidden, residual, sequences, draws)
    flow = mean(mx.square(error).mean((1, 2)))
    stop = mean(nn.losses.cross_entropy(network.stop_logits(hidden), sequences.is_last))
    conditions = [network.lm_to_dit_proj(hidden), network.res_to_dit_proj(residual)]
    logits = speaker.names(mx.concatenate(conditions, axis=-1)).reshape(-1, PATCH, PHONEMES)
    labels = mean(nn.losses.cross_entropy(logits, phonemes).mean(-1))
    right = mean((logits.argmax(-1) == phonemes).mean(-1))
    total = flow + STOP_WEIGHT * stop + LABEL_WEIGHT * labels
    return total, mx.stack([flow, stop, labels, right])


def batch_of(
    chosen: list[Spoken], random: np.random.Generator, noise: float = CONTEXT_NOISE
) -> tuple[Sequences, Sequences, mx.array, Draws]:
    """Noisy context, targets, their phonemes (M, PATCH) and the random numbers of the losses."""
    sequences = Sequences.of([example for example, _ in chosen], 8)
    drawn = random.standard_normal(sequences.patches.shape).astype(np.float32)
    context = replace(sequences, patches=sequences.patches + noise * mx.array(drawn))
    phonemes = np.concatenate([phonemes for _, phonemes in chosen])
    room = len(sequences.targets)
    phonemes = np.pad(phonemes, ((0, room - len(phonemes)), (0, 0))).astype(np.int32)
    counts = [example.targets for example, _ in chosen]
    shape = sequences.patches.shape[1:]
    draws = Draws.random([random] * len(chosen), counts, shape, padded_length=room)
    return context, sequences, mx.array(phonemes), draws


class Run:
    """Training state of a speaker, saved and resumed."""

    def __init__(self, folder: Path, steps: int):
        mx.random.seed(0)
        self.path, self.step = folder / "voice.safetensors", 0
        self.speaker = Speaker(VoxCPM2Config.from_dict(speech_config(VOCABULARY)))
        self.optimizer = optimizer_of(steps)
        self.optimizer.init(self.speaker.trainable_parameters())
        if not self.path.exists():
            self.speaker.begin_with(folder / "reader.safetensors")
            return
        stored = mx.load(str(self.path))
        self.step = int(stored.pop("step"))
        weights, state = {}, {}
        for name, value in stored.items():
            part, _, rest = name.partition(".")
            (weights if part == "speaker" else state)[rest] = value
        self.speaker.load_weights(list(weights.items()), strict=False)
        self.optimizer.state = tree_unflatten(list(state.items()))

    def save(self) -> None:
        part = self.path.with_suffix(".part.safetensors")
        weights = tree_flatten(self.speaker.trainable_parameters())
        stored = {f"speaker.{name}": value for name, value in weights}
        stored |= {f"state.{name}": each for name, each in tree_flatten(self.optimizer.state)}
        mx.save_safetensors(str(part), stored | {"step": mx.array(self.step)})
        os.replace(part, self.path)

    def learn(self, *batch) -> list[float]:
        (_, parts), gradients = nn.value_and_grad(self.speaker, loss_of)(self.speaker, *batch)
        gradients, norm = optim.clip_grad_norm(gradients, 1.0)
        self.optimizer.update(self.speaker, gradients)
        mx.eval(self.speaker.parameters(), self.optimizer.state, parts, norm)
        if not math.isfinite(norm.item()):
            raise ValueError(f"step {self.step}: the gradient is not finite")
        self.step += 1
        return parts.tolist()


def train(folder: Path, steps: int, size: int) -> None:
    run, began, found = Run(folder, steps), time.time(), []
    run.speaker.train()
    spoken = [each for name in part_names(folder) for each in spoken_examples(folder, name)]
    spoken.sort(key=lambda each: each[0].positions)
    held_out = spoken_examples(folder, HELD)
    names = ("flow", "stop", "labels", "right")
    while run.step < steps:
        random = np.random.default_rng(run.step)
        start = random.integers(len(spoken) - size)
        found.append(run.learn(*batch_of(spoken[start : start + size], random)))
        if run.step % LOGGED == 0:
            row = {"step": run.step, "seconds": round(time.time() - began)}
            row |= dict(zip(names, np.mean(found, 0).round(3).tolist(), strict=True))
            print(json.dumps(row), flush=True)
            found = []
        if run.step % EVERY == 0 or run.step == steps:
            run.save()
            fixed = np.random.default_rng(0)
            batches = [held_out[at : at + 25] for at in range(0, len(held_out), 25)]
            parts = [loss_of(run.speaker, *batch_of(each, fixed, 0))[1] for each in batches]
            held_out = dict(zip(names, np.mean(parts, 0).round(3).tolist(), strict=True))
            print(json.dumps({"step": run.step, "held": held_out}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=16)
    arguments = parser.parse_args()
    train(arguments.folder, arguments.steps, arguments.batch)


if __name__ == "__main__":
    main()
