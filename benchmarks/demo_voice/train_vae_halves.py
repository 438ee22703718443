"""Trains the AudioVAE's encoder and decoder, each on known latents: see acoustic_latents.py.

  python benchmarks/demo_voice/train_vae_halves.py decoder FOLDER [--steps N]
  python benchmarks/demo_voice/train_vae_halves.py encoder FOLDER [--steps N]
  python benchmarks/demo_voice/train_vae_halves.py decoder FOLDER --voices --steps N --rate 3e-4
  python benchmarks/demo_voice/train_vae_halves.py decoder FOLDER --store

FOLDER is speech_corpus.py's. FOLDER/decoder.state is written every 100 steps; the same command
resumes from it. The decoder learns latents -> audio, the encoder audio -> latents, independently.
--voices goes on from the weights in `trained/` with all voices, each in a part of the corpus of its
own. --store writes the weights so far into `trained/`, at 16 bits, once their gate is passed.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import cycle
from pathlib import Path

import numpy as np
import torch
from acoustics import LATENT
from safetensors.torch import load_file
from sizes import SPEECH_VAE
from speech_corpus import HELD, TRAINED, latents_and_audio, part_names
from torch import Tensor, nn
from torch.nn import functional
from training_torch import Run, fill, store_at_16_bits
from vae_torch import Decoder, Encoder
from voices import TEACHER, VOICES

# Window lengths in samples, and how many mel bands of each are compared.
RESOLUTIONS = {256: 32, 512: 64, 1024: 96, 2048: 160}
# Floor of the magnitudes that are compared.
FLOOR = 1e-3
CLIP, CONTEXT = 32, 3
"""Latents of a clip, and how many at its beginning lack context and have no loss."""
NOISE = 0.03
"""Standard deviation of the noise added to the decoder's latents."""
EVERY = 100


class Clips:
    """Batches of random clips from all parts; each part is in one of the voices."""

    def __init__(self, folder: Path, names: Sequence[str], voices: Sequence[str]):
        pairs = zip(names, cycle(voices), strict=False)
        parts = [latents_and_audio(folder, name, voice) for name, voice in pairs]
        self.latents = np.concatenate([latents for latents, _, _ in parts])
        self.audio = np.concatenate([audio for _, audio, _ in parts])

    def batch(self, size: int, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Latents (B, D, CLIP) and audio (B, 1, CLIP * LATENT)."""
        starts = random.integers(len(self.latents) - CLIP, size=size)
        latents = np.stack([self.latents[start : start + CLIP] for start in starts])
        clips = [self.audio[start * LATENT : (start + CLIP) * LATENT] for start in starts]
        audio = np.stack(clips).astype(np.float32)[:, None] / 32767
        return torch.from_numpy(latents).transpose(1, 2), torch.from_numpy(audio)


@lru_cache
def mel_bands(size: int, bands: int) -> Tensor:
    """Triangular mel filters (bands, frequencies), each of weight 1."""
    highest = 2595 * math.log10(1 + 8000 / 700)
    edges = 700 * (10 ** (torch.linspace(0, highest, bands + 2) / 2595) - 1)
    frequencies = torch.linspace(0, 8000, size // 2 + 1)[None]
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rise, fall = (frequencies - low) / (middle - low), (high - frequencies) / (high - middle)
    triangles = torch.minimum(rise, fall).clamp(min=0)
    nearest = functional.one_hot((frequencies - middle).abs().argmin(1), size // 2 + 1)
    triangles = torch.where(triangles.sum(1, keepdim=True) > 0, triangles, nearest)
    return triangles / triangles.sum(1, keepdim=True)


def spectral_loss(output: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of log mel magnitudes, over the resolutions."""
    total = torch.zeros(())
    both = torch.cat([output, target])[:, 0]
    for size, bands in RESOLUTIONS.items():
        window = torch.hann_window(size)
        parts = torch.stft(both, size, size // 4, window=window, return_complex=True)
        power = (parts.real**2 + parts.imag**2) / (window.sum() / 2) ** 2
        logs = torch.log(mel_bands(size, bands) @ (power + 1e-10).sqrt() + FLOOR)
        total = total + (logs[: len(output)] - logs[len(output) :]).abs().mean()
    return total / len(RESOLUTIONS)


def relative_error(output: Tensor, target: Tensor) -> Tensor:
    return ((output - target).square().mean() / (target.square().mean() + 1e-6)).sqrt()


def preemphasised(audio: Tensor) -> Tensor:
    """Pre-emphasis, so that consonants weigh in a waveform's error."""
    return audio[..., 1:] - 0.9 * audio[..., :-1]


def decoder_losses(decoder: nn.Module, latents: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
    """Loss, and its parts: of magnitudes, of the waveform, of the pre-emphasised waveform."""
    noisy = latents + NOISE * torch.randn_like(latents) if decoder.training else latents
    output, target = decoder(noisy)[..., CONTEXT * LATENT :], audio[..., CONTEXT * LATENT :]
    spectral = spectral_loss(output, target)
    waveform = relative_error(output, target)
    emphasised = relative_error(preemphasised(output), preemphasised(target))
    return spectral + waveform + 0.5 * emphasised, torch.stack(
        [spectral, waveform, emphasised]
    ).detach()


def encoder_losses(encoder: nn.Module, latents: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
    """Loss, and its parts: root mean squared error of the pitch channels and of the others."""
    error = (encoder(audio) - latents)[..., CONTEXT:].square()
    parts = torch.stack([error[:, :2].mean(), error[:, 2:].mean()]).sqrt()
    return error.mean(), parts.detach()


HALVES: dict[str, tuple[type[nn.Module], Callable]] = {
    "decoder": (Decoder, decoder_losses),
    "encoder": (Encoder, encoder_losses),
}


def load_half(half: str, folder: Path) -> nn.Module | None:
    """Encoder or decoder with its averaged weights of FOLDER, or else the stored one, if any."""
    module = HALVES[half][0](SPEECH_VAE).eval()
    state, stored = folder / f"{half}.state", TRAINED / f"{half}.safetensors"
    if state.exists():
        fill(module, torch.load(state)["average"])
    elif stored.exists():
        module.load_state_dict(load_file(stored))
    else:
        return None
    return module


def store_half(half: str, folder: Path) -> Path:
    """Writes the averaged weights and the basis where `load_half` finds them without FOLDER.

    Raises FileNotFoundError for a half that is not trained.
    """
    module, path = load_half(half, folder), TRAINED / f"{half}.safetensors"
    if module is None:
        raise FileNotFoundError(f"{folder} has no {half}.state; train it first")
    TRAINED.mkdir(exist_ok=True)
    store_at_16_bits(module, path)
    shutil.copy(folder / "basis.npz", TRAINED)
    return path


def train(
    half: str, folder: Path, steps: int, batch: int, rate: float, voices: Sequence[str]
) -> None:
    torch.manual_seed(0)
    network, losses = HALVES[half]
    module = network(SPEECH_VAE)
    if len(voices) > 1:
        module.load_state_dict(load_file(TRAINED / f"{half}.safetensors"))
    optimizer = torch.optim.AdamW(module.parameters(), lr=rate, betas=(0.8, 0.99))
    run = Run(module, folder / f"{half}.state", [optimizer], steps)
    checked = Clips(folder, [HELD] * len(voices), voices).batch(16, np.random.default_rng(0))
    names, found, began = part_names(folder), [], time.time()
    clips = Clips(folder, names, voices)
    while run.step < steps:
        latents, audio = clips.batch(batch, np.random.default_rng(run.step))
        loss, parts = losses(run.module, latents, audio)
        run.learn(loss)
        found.append(parts.numpy())
        if run.step % EVERY == 0 or run.step == steps:
            held_out = run.averaged(lambda module: losses(module, *checked)[1])
            row = {"step": run.step, "train": np.mean(found, 0).round(3).tolist()}
            row |= {"held": held_out.numpy().round(3).tolist()}
            row |= {"seconds": round(time.time() - began), "cpu": round(time.process_time())}
            print(json.dumps(row), flush=True)
            run.save()
            found = []
            if len(part_names(folder)) > len(names):
                names = part_names(folder)
                clips = Clips(folder, names, voices)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("half", choices=HALVES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=5)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--voices", action="store_true", help="all voices, not the teacher's alone")
    parser.add_argument("--store", action="store_true", help="the weights so far in trained/")
    arguments = parser.parse_args()
    if arguments.store:
        return print(store_half(arguments.half, arguments.folder))
    torch.set_num_threads(1)
    voices = list(VOICES) if arguments.voices else [TEACHER]
    train(
        arguments.half, arguments.folder, arguments.steps, arguments.batch, arguments.rate, voices
    )


if __name__ == "__main__":
    main()
