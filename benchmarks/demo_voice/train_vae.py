"""Train the demo voice's AudioVAE with PyTorch, which trains convolutions faster than MLX on a CPU.

  PYTHON train_vae.py WAVS.npz OUTPUT.pth [--steps N]      PYTHON has torch and voxcpm 2.0.3

The network is upstream's. It learns to reconstruct (log magnitudes of four short-time spectra and
their convergence: Yamamoto et al. 2019, arXiv 1910.11480), with latents kept near unit size and
noise added to them, so that small errors of the diffusion transformer are not heard. Goes on where
a killed run left its OUTPUT.
"""

from __future__ import annotations

import argparse
import importlib.machinery
import json
import math
import sys
import time
import types
from pathlib import Path

import numpy as np
import torch
from sizes import AUDIO_VAE

# voxcpm imports torchaudio for version 1 only; transformers asks for its specification.
sys.modules["torchaudio"] = types.ModuleType("torchaudio")
sys.modules["torchaudio"].__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)

from voxcpm.modules.audiovae.audio_vae_v2 import AudioVAE, AudioVAEConfig  # noqa: E402

RESOLUTIONS = (128, 320, 800, 2048)
LATENTS_PER_CLIP = 16
NOISE, LATENT_WEIGHT = 0.2, 0.02


class Clips:
    """Random pieces of utterances, in batches; the last utterances are for validation."""

    def __init__(self, path: Path, length: int, held_out: int = 32):
        file = np.load(path)
        starts = np.concatenate([[0], file["ends"][:-1]])
        spans = list(zip(starts, file["ends"], strict=True))
        self.sound, self.length = torch.from_numpy(file["x"]), length
        self.train, self.validation = spans[:-held_out], spans[-held_out:]

    def batch(self, spans: list, size: int, random: np.random.Generator) -> torch.Tensor:
        pieces = []
        for index in random.integers(len(spans), size=size):
            start, end = spans[index]
            # Beginnings and ends are rare among random pieces, but every utterance has them.
            margin = self.length // 4
            start = random.integers(start - margin, max(end - 3 * margin, start))
            piece = self.sound[max(start, spans[index][0]) : min(start + self.length, end)]
            left = max(0, int(spans[index][0] - start))
            right = self.length - left - len(piece)
            pieces.append(torch.nn.functional.pad(piece, (left, right)))
        return torch.stack(pieces)[:, None]


def spectral_loss(made: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    total = 0.0
    for size in RESOLUTIONS:
        window = torch.hann_window(size)
        made_size, given_size = (
            torch.stft(x.squeeze(1), size, size // 4, window=window, return_complex=True).abs()
            for x in (made, given)
        )
        scale = window.sum() / 2
        made_size, given_size = made_size / scale, given_size / scale
        logs = (torch.log(made_size + 1e-4) - torch.log(given_size + 1e-4)).abs().mean()
        total = total + logs + (made_size - given_size).norm() / (given_size.norm() + 1e-3)
    return total / len(RESOLUTIONS)


def loss_of(vae: AudioVAE, clips: torch.Tensor, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    latents = vae.encoder(clips)["mu"]
    rate = torch.full((len(clips),), vae.out_sample_rate, dtype=torch.int32)
    made = vae.decode(latents + noise * torch.randn_like(latents), rate)
    return spectral_loss(made, clips), latents.square().mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wavs", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    vae = AudioVAE(AudioVAEConfig(**AUDIO_VAE))
    optimizer = torch.optim.AdamW(vae.parameters(), lr=arguments.rate, betas=(0.8, 0.95))
    first, state = 0, arguments.output.with_suffix(".state")
    if state.exists():
        held = torch.load(state)
        vae.load_state_dict(held["vae"])
        optimizer.load_state_dict(held["optimizer"])
        first = held["step"]
    clips = Clips(arguments.wavs, LATENTS_PER_CLIP * vae.chunk_size)
    checked = clips.batch(clips.validation, 32, np.random.default_rng(0))
    began = time.time()
    for step in range(first, arguments.steps):
        progress = step / arguments.steps
        rate = arguments.rate * min(1, step / 100, 0.02 + 0.49 * (1 + math.cos(math.pi * progress)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = clips.batch(clips.train, arguments.batch, np.random.default_rng(step))
        spectral, size = loss_of(vae, batch, NOISE)
        optimizer.zero_grad()
        (spectral + LATENT_WEIGHT * size).backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 100 == 0 or step + 1 == arguments.steps:
            with torch.no_grad():
                valid, _ = loss_of(vae, checked, 0.0)
            row = {"step": step + 1, "train": round(spectral.item(), 4),
                   "validation": round(valid.item(), 4), "latents": round(size.item() ** 0.5, 3),
                   "seconds": round(time.time() - began)}  # fmt: skip
            print(json.dumps(row), flush=True)
            held = {"vae": vae.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
            torch.save(held, state.with_suffix(".part"))
            state.with_suffix(".part").rename(state)
    torch.save({"state_dict": vae.state_dict()}, arguments.output)


if __name__ == "__main__":
    main()
