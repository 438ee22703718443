"""Measures how well speech is understood after the AudioVAE; writes FOLDER/audiovae.safetensors.

  python benchmarks/demo_voice/evaluate_vae.py FOLDER [--count N] [--known] [--voice man]

FOLDER is train_vae_halves.py's. Word error rates of held-out sentences: of the decoder's target,
and of this package's AudioVAE, through encoder and decoder, or with --known from the latents that
the encoder should predict. Exit status 1 above 5 %.
"""

from __future__ import annotations

import mlx_voxcpm2  # noqa: F401  # before MLX, so that it finds a fast BLAS on Linux  # isort: skip

import argparse
from itertools import pairwise
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from acoustics import LATENT
from sizes import SPEECH_VAE
from speech_corpus import HELD, facts_of, latents_and_audio
from transcription import transcribe, word_error_rate
from voices import TEACHER, VOICES

from mlx_voxcpm2.layers.conv import CausalConv1d, CausalTransposeConv1d
from mlx_voxcpm2.models.voxcpm2.audio_vae import AudioVAE
from mlx_voxcpm2.models.voxcpm2.audio_vae_blocks import Snake1d
from mlx_voxcpm2.models.voxcpm2.config import AudioVAEConfig
from mlx_voxcpm2.schema import read_dataclass

WORST = 0.05


def load(path: Path) -> AudioVAE:
    """Loads the file that vae_torch.py wrote."""
    vae = AudioVAE(read_dataclass(AudioVAEConfig, SPEECH_VAE, []))
    fill(vae, mx.load(str(path)))
    return vae


def fill(module: nn.Module, weights: dict[str, mx.array]) -> None:
    """Loads PyTorch's weights, all or raises ValueError."""
    for name, part in module.named_modules():
        if isinstance(part, (CausalConv1d, CausalTransposeConv1d)):
            weights[f"{name}.weight"] = part.from_torch(weights[f"{name}.weight"])
        elif isinstance(part, Snake1d):
            weights[f"{name}.alpha"] = weights[f"{name}.alpha"].reshape(-1)
    module.load_weights(list(weights.items()))


def export_halves(folder: Path) -> Path:
    """Exports both trained halves; without a trained encoder, one with random weights."""
    from train_vae_halves import load_half
    from vae_torch import Encoder, export

    path, decoder = folder / "audiovae.safetensors", load_half("decoder", folder)
    if decoder is None:
        raise SystemExit(f"{folder} has no decoder.state; train the decoder first")
    export(load_half("encoder", folder) or Encoder(SPEECH_VAE), decoder, SPEECH_VAE, path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument(
        "--known", action="store_true", help="decode the target latents, without the encoder"
    )
    parser.add_argument("--voice", choices=VOICES, default=TEACHER)
    arguments = parser.parse_args()
    vae = load(export_halves(arguments.folder))
    latents, audio, ends = latents_and_audio(arguments.folder, HELD, arguments.voice)
    spans, targets, decoded = list(pairwise([0, *ends])), [], []
    facts = facts_of(arguments.folder, HELD)
    for index in np.linspace(0, len(facts) - 1, arguments.count).astype(int):
        begin, end = spans[index]
        text, clip = facts[index]["text"], audio[begin * LATENT : end * LATENT] / 32767
        found = mx.array(latents[None, begin:end])
        if not arguments.known:
            found = vae.encode(mx.array(clip.astype(np.float32))[None])
        targets.append(transcribe(text, clip))
        decoded.append(transcribe(text, np.array(vae.decode(found)[0])))
    for each in decoded:
        if each.errors:
            print(f"{each.text} -> {each.recognised}")
    error = word_error_rate(decoded)
    print(f"word error rate {error:.3f}, of the decoder's target {word_error_rate(targets):.3f}")
    raise SystemExit(error > WORST)


if __name__ == "__main__":
    main()
