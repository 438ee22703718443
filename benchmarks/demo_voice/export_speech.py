"""Writes the voice for any English text as a checkpoint, in the layout that upstream publishes.

  python benchmarks/demo_voice/export_speech.py FOLDER [CHECKPOINT] [--mean]

FOLDER is train_voice.py's, with both halves of the AudioVAE. Weights are stored at 16 bits. Without
CHECKPOINT it is the package's voice, and `trained/` has the rest of what its training needs.
With --mean the network is the mean of the package's, from which FOLDER's training went on, and of
the one that it reached; the AudioVAE is FOLDER's.
"""

from __future__ import annotations

import mlx_voxcpm2  # noqa: F401  # before MLX, so that it finds a fast BLAS on Linux  # isort: skip

import argparse
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import mlx.core as mx
from evaluate_vae import export_halves
from safetensors.torch import load_file
from sizes import LARGEST, speech_config
from speech_corpus import TRAINED
from spelling import CHARACTERS, VOCABULARY, write_settings
from torch import Tensor
from train_voice import HEADS, PACKAGED, load_speaker
from training_torch import store_at_16_bits
from voices import VOICES

from mlx_voxcpm2.file_names import CHARACTERS_FILE, DESCRIPTIONS_FILE
from mlx_voxcpm2.weights.hub import BUILT_IN


def export(folder: Path, checkpoint: Path, is_mean: bool = False) -> None:
    new = checkpoint.with_name(checkpoint.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    settings = speech_config(VOCABULARY)
    (new / "config.json").write_text(json.dumps(settings, indent=1) + "\n")
    shutil.copy(folder / "tokenizer.json", new)
    write_settings(new)
    readable = "".join(each for each in CHARACTERS if not each.isdigit() and not each.isspace())
    (new / CHARACTERS_FILE).write_text(readable + "\n", encoding="utf-8")
    descriptions = [each for voice in VOICES.values() for each in voice.descriptions]
    (new / DESCRIPTIONS_FILE).write_text("\n".join(descriptions) + "\n", encoding="utf-8")
    shutil.copy(Path(__file__).with_name("NOTICE"), new)
    speaker = load_speaker(folder)
    weights, heads = speaker.network.state_dict(), speaker.heads()
    if is_mean:
        weights, heads = mean(weights, load_file(PACKAGED)), mean(heads, load_file(HEADS))
    store_at_16_bits(weights, new / "model.safetensors")
    vae = mx.load(str(export_halves(folder)))
    mx.save_safetensors(str(new / "audiovae.safetensors"), at_16_bits(vae))
    for file in new.iterdir():
        file.chmod(0o644)
    shutil.rmtree(checkpoint, ignore_errors=True)
    new.rename(checkpoint)
    if checkpoint == BUILT_IN["english"]:
        TRAINED.mkdir(exist_ok=True)
        shutil.copy(folder / "basis.npz", TRAINED)
        store_at_16_bits(heads, HEADS)


def mean(weights: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Mean of two networks' weights (Wortsman et al. 2022, arXiv 2203.05482)."""
    return {name: (value.float() + others[name].float()) / 2 for name, value in weights.items()}


def at_16_bits(weights: dict[str, mx.array]) -> dict[str, mx.array]:
    """Casts to float16, which has three bits more than bfloat16; integers stay."""
    return {
        name: value.astype(mx.float16) if mx.issubdtype(value.dtype, mx.floating) else value
        for name, value in weights.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("checkpoint", type=Path, nargs="?", default=BUILT_IN["english"])
    parser.add_argument("--mean", action="store_true", help="with the package's present network")
    arguments = parser.parse_args()
    export(arguments.folder, arguments.checkpoint, arguments.mean)
    size = sum(file.stat().st_size for file in arguments.checkpoint.iterdir())
    print(f"{size / 1e6:.1f} MB")
    raise SystemExit(size > LARGEST)


if __name__ == "__main__":
    main()
