"""Train the demo voice's AudioVAE with PyTorch, which trains convolutions faster than MLX on a CPU.

  PYTHON train_vae.py WAVS.npz OUTPUT.pth [--steps N]      PYTHON has torch and voxcpm 2.0.3

The network is upstream's. It learns to reconstruct (magnitudes of four short-time spectra:
Yamamoto et al. 2019, arXiv 1910.11480; by mel bands: Kumar et al. 2023, arXiv 2306.06546), with
latents kept near unit size and noise added to them, so that small errors of the diffusion
transformer are not heard. Goes on where a killed run left its OUTPUT.
"""

from __future__ import annotations

import argparse
import importlib.machinery
import json
import math
import sys
import time
import types
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from sizes import AUDIO_VAE

# voxcpm imports torchaudio for version 1 only; transformers asks for its specification.
sys.modules["torchaudio"] = types.ModuleType("torchaudio")
sys.modules["torchaudio"].__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)

from voxcpm.modules.audiovae.audio_vae_v2 import AudioVAE, AudioVAEConfig  # noqa: E402

# Window lengths in samples, and how many mel bands of each are compared.
RESOLUTIONS = {256: 32, 512: 64, 1024: 96, 2048: 192}
# Magnitudes below this, 40 dB under the speech, are not worth learning.
FLOOR = 1e-3
LATENTS_PER_CLIP = 16
HOP = math.prod(AUDIO_VAE["encoder_rates"])
# The noise grows to this during the first steps, while latents are still small.
NOISE, NOISE_STEPS, LATENT_WEIGHT = 0.1, 1000, 0.01


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
            # Where latents of the whole clip begin, which is where its periods begin.
            start += HOP * random.integers(max(1, (end - start - self.length // 2) // HOP))
            piece = self.sound[start : min(start + self.length, end)]
            pieces.append(torch.nn.functional.pad(piece, (0, self.length - len(piece))))
        return torch.stack(pieces)[:, None]


@lru_cache
def mel_bands(size: int, bands: int) -> torch.Tensor:
    """(bands, frequencies): triangles, even on the mel scale, each of weight 1."""
    highest = 2595 * math.log10(1 + AUDIO_VAE["sample_rate"] / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, highest, bands + 2) / 2595) - 1)
    frequencies = torch.linspace(0, AUDIO_VAE["sample_rate"] / 2, size // 2 + 1)[None]
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rise, fall = (frequencies - low) / (middle - low), (high - frequencies) / (high - middle)
    triangles = torch.minimum(rise, fall).clamp(min=0)
    # Low bands of a short window may lie between two frequencies: they take the nearest.
    nearest = torch.nn.functional.one_hot((frequencies - middle).abs().argmin(1), size // 2 + 1)
    triangles = torch.where(triangles.sum(1, keepdim=True) > 0, triangles, nearest)
    return triangles / triangles.sum(1, keepdim=True)


def spectral_loss(made: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    """Of magnitudes: the logarithms' mean difference by mel band, and the relative error."""
    total = 0.0
    for size, bands in RESOLUTIONS.items():
        window, mel = torch.hann_window(size), mel_bands(size, bands)
        sizes = [
            torch.stft(x.squeeze(1), size, size // 4, window=window, return_complex=True).abs()
            / (window.sum() / 2)
            for x in (made, given)
        ]
        logs = [torch.log(mel @ magnitude + FLOOR) for magnitude in sizes]
        total = total + (logs[0] - logs[1]).abs().mean()
        total = total + (sizes[0] - sizes[1]).norm() / (sizes[1].norm() + 1e-3)
    return total / len(RESOLUTIONS)


def waveform_loss(made: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    """The relative error. The decoder has no clock: only latents that tell the phase let it speak
    with a pitch, which magnitudes alone teach slowly."""
    return (made - given).norm() / (given.norm() + 1e-3)


def loss_of(
    vae: AudioVAE, clips: torch.Tensor, noise: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    latents = vae.encoder(clips)["mu"]
    rate = torch.full((len(clips),), vae.out_sample_rate, dtype=torch.int32)
    made = vae.decode(latents + noise * torch.randn_like(latents), rate)
    return spectral_loss(made, clips), waveform_loss(made, clips), latents.square().mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wavs", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--steps", type=int, default=5800)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument(
        "--decoder_of",
        type=Path,
        metavar="PTH",
        help="train this one's decoder on, for the same latents, while the rest learns from them",
    )
    arguments = parser.parse_args()
    torch.manual_seed(0)
    vae = AudioVAE(AudioVAEConfig(**AUDIO_VAE))
    if arguments.decoder_of:
        vae.load_state_dict(torch.load(arguments.decoder_of)["state_dict"])
        vae.encoder.requires_grad_(False)
    learnt = [weight for weight in vae.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(learnt, lr=arguments.rate, betas=(0.8, 0.99))
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
        spectral, waveform, size = loss_of(vae, batch, NOISE * min(1, step / NOISE_STEPS))
        optimizer.zero_grad()
        (spectral + waveform + LATENT_WEIGHT * size).backward()
        torch.nn.utils.clip_grad_norm_(learnt, 1.0)
        optimizer.step()
        if (step + 1) % 100 == 0 or step + 1 == arguments.steps:
            with torch.no_grad():
                valid, valid_waveform, _ = loss_of(vae, checked, 0.0)
            row = {
                "step": step + 1,
                "train": round(spectral.item(), 4),
                "validation": round(valid.item(), 4),
                "waveform": round(valid_waveform.item(), 4),
                "latents": round(size.item() ** 0.5, 3),
                "seconds": round(time.time() - began),
            }
            print(json.dumps(row), flush=True)
            held = {"vae": vae.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
            torch.save(held, state.with_suffix(".part"))
            state.with_suffix(".part").rename(state)
    torch.save({"state_dict": vae.state_dict()}, arguments.output)


if __name__ == "__main__":
    main()
