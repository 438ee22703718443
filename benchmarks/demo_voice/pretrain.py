"""Teach the demo voice's language models to read before they speak.

  python benchmarks/demo_voice/pretrain.py CHECKPOINT OUTPUT MANIFEST --latents FOLDER

VoxCPM2's language model had learnt to read before: it was MiniCPM-4. The demo voice's has not, and
the flow's loss teaches it the order of words hardly at all: where noise leaves a patch to be seen,
words tell nothing new. So it first learns to name what comes next, by cross entropy: which third of
which word, and whose voice, from what the language models tell the diffusion transformer (mu). For
some hundred steps they know the words that are likely, then all at once those that are written.
The layers that name are thrown away.
"""

from __future__ import annotations

import mlx_voxcpm2  # noqa: F401  # before MLX, so that it finds a fast BLAS on Linux  # isort: skip

import argparse
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from corpus import plan
from mlx.utils import tree_flatten
from speech import LANGUAGES, PATCHES_PER_WORD, SPEAKERS

from mlx_voxcpm2 import VoxCPM2, load_model
from mlx_voxcpm2.training.latents import LatentCache
from mlx_voxcpm2.training.sequences import Example, Sequences

WORDS = [word for words in LANGUAGES.values() for word in words]
BATCH, RATE, WARM_UP = 32, 1e-3, 60
VOICE_WEIGHT = 0.3
READS = 0.25
"""The loss of the sounds that begin a word, below which the words are known."""


@dataclass(frozen=True)
class Named:
    """An example, and the number of each of its patches and of its voice."""

    example: Example
    sounds: list[int]
    voice: int


class Namer(nn.Module):
    """mu (M, H) -> logits of the sounds (M, S) and of the voices (M, V)."""

    def __init__(self, size: int):
        super().__init__()
        self.sound = nn.Linear(size, len(WORDS) * PATCHES_PER_WORD)
        self.voice = nn.Linear(size, len(SPEAKERS))


def read_examples(model: VoxCPM2, manifest: Path, latents: Path) -> list[Named]:
    """Latents are kept in that folder."""
    cache, said = LatentCache(latents, model), {each.clip: each for each in plan()}
    found = []
    for line in map(json.loads, manifest.read_text(encoding="utf-8").splitlines()):
        patches, reference = (
            np.array(cache(manifest.parent / line[key])) if key in line else None
            for key in ("audio", "ref_audio")
        )
        utterance = said[line["audio"]]
        sounds = [
            PATCHES_PER_WORD * WORDS.index(word) + part
            for word in utterance.words
            for part in range(PATCHES_PER_WORD)
        ]
        sounds += sounds[-1:] * (len(patches) - len(sounds))  # the silence behind a single word
        example = Example(model.tokenize(line["text"]), patches, reference)
        found.append(Named(example, sounds, list(SPEAKERS).index(utterance.speaker)))
        mx.clear_cache()
    return found


def loss_of(
    model: VoxCPM2, namer: Namer, sequences: Sequences, sounds: mx.array, voices: mx.array
) -> tuple[mx.array, mx.array]:
    """The loss, and its parts: of the sounds that begin a word, of the voice, of the stop head."""
    embeddings = model.embed(sequences.tokens, sequences.is_audio, sequences.patches)
    hidden, residual = (
        states.reshape(-1, states.shape[-1])[sequences.targets - 1]
        for states in model(embeddings, sequences.is_audio)
    )
    mu = [model.lm_to_dit_proj(hidden), model.res_to_dit_proj(residual)]
    mu = mx.concatenate(mu, axis=-1)

    def mean(logits: mx.array, right: mx.array, weights: mx.array) -> mx.array:
        wrong = nn.losses.cross_entropy(logits, right)
        return mx.sum(wrong * weights) / mx.sum(weights)

    weights = sequences.weights
    named = namer.sound(mu)
    voice = mean(namer.voice(mu), voices, weights)
    stop = mean(model.stop_logits(hidden), sequences.is_last, weights)
    total = mean(named, sounds, weights) + VOICE_WEIGHT * voice + stop
    begins = weights * (sounds % PATCHES_PER_WORD == 0)
    return total, mx.stack([mean(named, sounds, begins), voice, stop])


def batch_of(chosen: list[Named]) -> tuple[Sequences, mx.array, mx.array]:
    sequences = Sequences.of([each.example for each in chosen], 4)
    sounds = [sound for each in chosen for sound in each.sounds]
    voices = [each.voice for each in chosen for _ in each.sounds]
    fill = len(sequences.targets) - len(sounds)
    return sequences, *(mx.array(np.pad(values, (0, fill))) for values in (sounds, voices))


def pretrain(model: VoxCPM2, examples: list[Named], steps: int) -> None:
    """Until it reads. Raises RuntimeError if it does not after so many steps."""
    model.train()
    model.audio_vae.freeze()
    model.feat_decoder.freeze()
    config = model.config
    namer = Namer(2 * config.dit_config.hidden_dim)
    optimizer = optim.AdamW(optim.linear_schedule(0, RATE, WARM_UP), betas=[0.9, 0.98])
    random, began, losses = np.random.default_rng(0), time.time(), []

    def computed(parameters: dict, *batch) -> tuple[mx.array, mx.array]:
        model.update(parameters["model"])
        namer.update(parameters["namer"])
        return loss_of(model, namer, *batch)

    learn = mx.value_and_grad(computed)
    for step in range(1, steps + 1):
        batch = batch_of([examples[index] for index in random.integers(len(examples), size=BATCH)])
        parameters = {"model": model.trainable_parameters(), "namer": namer.parameters()}
        (_, parts), gradients = learn(parameters, *batch)
        gradients, _ = optim.clip_grad_norm(gradients, 1.0)
        parameters = optimizer.apply_gradients(gradients, parameters)
        model.update(parameters["model"])
        namer.update(parameters["namer"])
        mx.eval(parameters, optimizer.state, parts)
        losses.append(parts.tolist())
        if step % 25 == 0:
            words, voice, stop = np.mean(losses[-25:], axis=0)
            print(
                f"step {step} of {steps}: words {words:.3f}, voice {voice:.3f}, stop {stop:.3f}, "
                f"{time.time() - began:.0f} s",
                flush=True,
            )
            if words < READS:
                return
    raise RuntimeError(f"it has not learnt to read in {steps} steps; give more --steps")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--latents", type=Path, required=True, help="where they are kept")
    parser.add_argument("--steps", type=int, default=2000, help="at most")
    arguments = parser.parse_args()
    mx.random.seed(0)
    model = load_model(arguments.checkpoint, "float32")
    pretrain(model, read_examples(model, arguments.manifest, arguments.latents), arguments.steps)
    part = arguments.output.with_name(arguments.output.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(arguments.checkpoint, part)
    weights = dict(tree_flatten(model.parameters()))
    weights = {name: x for name, x in weights.items() if not name.startswith("audio_vae.")}
    mx.save_safetensors(str(part / "model.safetensors"), weights)
    part.rename(arguments.output)


if __name__ == "__main__":
    main()
