"""Trains the AudioVAE's encoder and decoder, each on known latents: see acoustic_latents.py.

  python benchmarks/demo_voice/train_vae_halves.py decoder FOLDER [--steps N]
  python benchmarks/demo_voice/train_vae_halves.py encoder FOLDER [--steps N]
  python benchmarks/demo_voice/train_vae_halves.py decoder FOLDER --voices --steps N --rate 3e-4

FOLDER is speech_corpus.py's. FOLDER/decoder.state is written every 100 steps; the same command
resumes from it. The decoder learns latents -> audio, the encoder audio -> latents, independently.
--voices goes on from the package's weights with all voices, each in a part of the corpus of its
own; the decoder then learns from predicted_speech.py's latents too, where they exist.
"""

from __future__ import annotations

import argparse
import json
import math
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
from speech_corpus import HELD, latents_and_audio, part_names
from torch import Tensor, nn
from torch.nn import functional
from training_torch import Run, fill
from vae_torch import Decoder, Encoder
from voices import TEACHER, VOICES

from mlx_voxcpm2.weights.hub import BUILT_IN

# Window lengths in samples, and how many mel bands of each are compared.
RESOLUTIONS = {256: 32, 512: 64, 1024: 96, 2048: 160}
# Floor of the magnitudes that are compared.
FLOOR = 1e-3
CLIP, CONTEXT = 32, 3
"""Latents of a clip, and how many at its beginning lack context and have no loss."""
NOISE = 0.03
"""Standard deviation of the noise added to the decoder's latents."""
EVERY = 100
PACKAGED = BUILT_IN["english"] / "audiovae.safetensors"
PARTS = 30
"""Number of parts of the corpus whose audio is learnt."""


def parts_and_voices(folder: Path, voices: Sequence[str]) -> list[tuple[str, str]]:
    """Parts of the corpus whose audio is learnt, and the voice of each."""
    return list(zip(part_names(folder)[:PARTS], cycle(voices), strict=False))


def predicted_path(folder: Path, name: str, voice: str) -> Path:
    """Latents of a part as the network speaks them: see predicted_speech.py."""
    return folder / "predicted" / voice / f"{name}.npz"


class Clips:
    """Batches of random clips from parts of the corpus, each in a voice."""

    def __init__(self, folder: Path, parts: Sequence[tuple[str, str]], predicted: bool = False):
        """predicted: whether the network's latents are used where they are known."""
        said = [latents_and_audio(folder, name, voice) for name, voice in parts]
        self.latents = np.concatenate([latents for latents, _, _ in said])
        self.audio = np.concatenate([audio for _, audio, _ in said])
        self.predicted = self.latents
        if predicted:
            paths = [predicted_path(folder, *part) for part in parts]
            self.predicted = np.concatenate(
                [
                    np.load(path)["latents"] if path.exists() else latents
                    for path, (latents, _, _) in zip(paths, said, strict=True)
                ]
            )

    def batch(self, size: int, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Latents (B, D, CLIP), half of them predicted, and audio (B, 1, CLIP * LATENT)."""
        starts = random.integers(len(self.latents) - CLIP, size=size)
        latents = np.stack(
            [
                (self.predicted if random.random() < 0.5 else self.latents)[start : start + CLIP]
                for start in starts
            ]
        )
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
    """Encoder or decoder with its averaged weights of FOLDER, or else the package's, if any."""
    module = HALVES[half][0](SPEECH_VAE).eval()
    if (state := folder / f"{half}.state").exists():
        fill(module, torch.load(state)["average"])
    elif PACKAGED.exists():
        module.load_state_dict(packaged_half(half))
    else:
        return None
    return module


def packaged_half(half: str) -> dict[str, Tensor]:
    """Weights of the package's encoder or decoder."""
    weights = {
        name.removeprefix(f"{half}."): value.float()
        for name, value in load_file(PACKAGED).items()
        if name.startswith(f"{half}.")
    }
    # The sample rate's conditions are constant.
    return {name: value for name, value in weights.items() if not name.startswith("sr_")}


def train(
    half: str, folder: Path, steps: int, batch: int, rate: float, voices: Sequence[str]
) -> None:
    torch.manual_seed(0)
    network, losses = HALVES[half]
    module = network(SPEECH_VAE)
    if len(voices) > 1 and not (folder / f"{half}.state").exists():
        module.load_state_dict(packaged_half(half))
    optimizer = torch.optim.AdamW(module.parameters(), lr=rate, betas=(0.8, 0.99))
    run = Run(module, folder / f"{half}.state", [optimizer], steps)
    held_out = Clips(folder, [(HELD, voice) for voice in voices])
    checked = held_out.batch(16, np.random.default_rng(0))
    clips = Clips(folder, parts_and_voices(folder, voices), predicted=half == "decoder")
    found, began = [], time.time()
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("half", choices=HALVES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=5)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--voices", action="store_true", help="all voices, not the teacher's alone")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    voices = list(VOICES) if arguments.voices else [TEACHER]
    train(
        arguments.half, arguments.folder, arguments.steps, arguments.batch, arguments.rate, voices
    )


if __name__ == "__main__":
    main()
