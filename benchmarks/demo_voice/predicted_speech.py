"""Writes the latents that the network speaks, each patch after the teacher's speech.

  python benchmarks/demo_voice/predicted_speech.py FOLDER [--parts N]

FOLDER is train_voice.py's. Writes FOLDER/predicted/VOICE/NAME.npz, which train_vae_halves.py's
decoder learns beside the teacher's own: the network's latents are smoother, and the decoder makes
the teacher's audio of both.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from acoustic_latents import PITCH_LATENTS
from speech_corpus import save
from spelling import Speller
from spoken_batches import Corpus, SpokenBatch
from torch import Tensor
from train_vae_halves import parts_and_voices, predicted_path
from train_voice import conditions, load_speaker
from training_torch import fast_products
from voice_torch import Network
from voices import VOICES

from mlx_voxcpm2.models.voxcpm2.flow import Schedule

STEPS, GUIDANCE = 10, 2.0
BATCH = 25


def sampled(network: Network, mu: Tensor, cond: Tensor, noise: Tensor) -> Tensor:
    """Patches (N, P, D) by Euler's method with guidance, as `FlowMatching` in MLX."""
    schedule, x = Schedule.sway(STEPS), noise
    without = torch.zeros_like(mu)
    for step in range(schedule.zero_steps, len(schedule.times)):
        t = torch.full((len(x),), schedule.times[step])
        guided = network.velocity(x, mu, t, cond).float()
        base = network.velocity(x, without, t, cond).float()
        dot, norm = ((guided * base).sum((1, 2)), base.square().sum((1, 2)))
        base = base * (dot / (norm + 1e-8))[:, None, None]
        x = x - schedule.sizes[step] * (base + GUIDANCE * (guided - base))
    return x


@torch.no_grad()
def predicted(network: Network, batch: SpokenBatch, seed: int) -> Tensor:
    """Patches to be spoken (M, PATCH, D), with the teacher's pitch, which decides the phase."""
    _, mu, cond = conditions(network, batch, batch.patches)
    wanted = batch.patches[batch.targets]
    noise = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(seed))
    found = sampled(network, mu, cond, noise)
    found[..., :PITCH_LATENTS] = wanted[..., :PITCH_LATENTS]
    return found


def write(folder: Path, parts: int) -> None:
    network, speller = load_speaker(folder).network, Speller(folder)
    random = np.random.default_rng(0)
    for name, voice in parts_and_voices(folder, list(VOICES))[:parts]:
        path = predicted_path(folder, name, voice)
        if path.exists():
            continue
        corpus = Corpus(folder, [name], speller, [voice])
        found: dict[int, np.ndarray] = {}
        for begin in range(0, len(corpus.order), BATCH):
            indices = corpus.order[begin : begin + BATCH]
            said = [corpus.described(index, voice, random) for index in indices]
            with fast_products():
                patches = predicted(network, SpokenBatch(said), begin).numpy()
            ends = np.cumsum([len(each.patches) for each in said])
            found |= dict(zip(indices, np.split(patches, ends[:-1]), strict=True))
        for index in range(len(corpus.facts)):
            found.setdefault(index, corpus.patches(index, voice))  # those that can't be spelt
        patches = np.concatenate([found[index] for index in sorted(found)])
        path.parent.mkdir(parents=True, exist_ok=True)
        save(path, latents=patches.reshape(-1, patches.shape[-1]))
        print(f"{name}, {voice}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parts", type=int, default=12)
    arguments = parser.parse_args()
    write(arguments.folder, arguments.parts)


if __name__ == "__main__":
    main()
