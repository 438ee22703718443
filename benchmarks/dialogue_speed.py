"""Seconds per frame of VibeVoice here and in mlx-audio, on the same random weights, in turns.

    python benchmarks/dialogue_speed.py [--divisor 3] [--rounds 5] [--kernels] [--clock process]

Both run in one process on one device with one BLAS, A B A B, and are made to speak frame after
frame. A frame is one step of the language model with guidance, ten of the diffusion head, one of
the decoder and one of the semantic encoder. The model has the released 1.5B's depths, ratios and
proportions, and its widths over `--divisor`. mlx-audio loads no model whose head is its embedding,
so this one has its own; its vocabulary is small.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from mlx_voxcpm2 import vibevoice  # before MLX: on Linux it finds a fast BLAS
from mlx_voxcpm2.layers.compiled import FUSION

import mlx.core as mx  # isort: skip
import numpy as np  # isort: skip
from mlx.utils import tree_flatten  # isort: skip

sys.path.append(str(Path(__file__).parent.parent / "tests"))

import vibevoice_checkpoints as tiny
import vibevoice_configs

from mlx_voxcpm2.models.vibevoice.config_files import read_config
from mlx_voxcpm2.models.vibevoice.layouts import to_mlx_audio
from mlx_voxcpm2.models.vibevoice.network import VibeVoiceNetwork

SCRIPT = "Speaker 1: Hello there, how are you?\nSpeaker 2: Well, thank you."
Clock = Callable[[], float]
FEW, MANY = 2, 8
"""Frames of two runs, whose difference leaves the prompt out."""


def config(divisor: int) -> dict:
    """Microsoft's config.json of the released 1.5B, with widths over a divisor of 12."""
    hidden, filters = 1536 // divisor, round(32 / divisor)
    data = vibevoice_configs.microsoft_config("wide")
    codec = {"encoder_n_filters": filters, "encoder_ratios": [8, 5, 5, 4, 2, 2]}
    codec["encoder_depths"] = "3-3-3-3-3-3-8"
    data["acoustic_tokenizer_config"] |= codec | {"vae_dim": 64, "decoder_n_filters": filters}
    data["acoustic_tokenizer_config"]["decoder_ratios"] = codec["encoder_ratios"]
    data["semantic_tokenizer_config"] |= codec | {"vae_dim": 128}
    data |= {"acoustic_vae_dim": 64, "semantic_vae_dim": 128}
    heads = {"num_attention_heads": 12 // divisor, "num_key_value_heads": 1 if divisor > 1 else 2}
    sizes = {"hidden_size": hidden, "intermediate_size": 8960 // divisor, "num_hidden_layers": 28}
    data["decoder_config"] |= {**heads, **sizes, "max_position_embeddings": 8192}
    head = {"hidden_size": hidden, "head_layers": 4, "latent_size": 64}
    data["diffusion_head_config"] |= head | {"speech_vae_dim": 64, "ddpm_num_inference_steps": 10}
    return data


def write_checkpoint(folder: Path, data: dict) -> Path:
    """A checkpoint of random weights, in mlx-audio's layout."""
    network = VibeVoiceNetwork(read_config(data))
    export, random = to_mlx_audio(network), np.random.RandomState(0)

    def made(name: str, value: mx.array) -> mx.array:
        if "norm" in name or name.endswith("factor"):
            return mx.ones(value.shape)
        size = 0.5 / np.sqrt(max(1, value.size // value.shape[0]))
        return mx.array(random.standard_normal(value.shape).astype(np.float32) * size)

    weights = dict(export(n, made(n, x)) for n, x in tree_flatten(network.parameters()))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    (folder / "config.json").write_text(json.dumps(data))
    (folder / "preprocessor_config.json").write_text("{}")
    tiny.write_tokenizer(folder)
    return folder


def load_peer(folder: Path):
    """mlx-audio's model, which always asks for a frame."""
    from mlx_audio.tts.models.vibevoice.config import ModelConfig
    from mlx_audio.tts.models.vibevoice.vibevoice import Model
    from transformers import PreTrainedTokenizerFast

    data = json.loads((folder / "config.json").read_text())
    model = Model(ModelConfig.from_dict(data | {"model_path": str(folder)}))
    weights = mx.load(str(folder / "model.safetensors"))
    model.load_weights(list(weights.items()), strict=True)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    tokenizer.eos_token = "<|endoftext|>"
    model.tokenizer = tokenizer
    model._resolve_non_streaming_token_ids()
    model._select_non_streaming_next_token = lambda *_, **__: model.speech_diffusion_id
    mx.eval(model.parameters())
    return model


def run_ours(model: vibevoice.VibeVoice, frames: int, clock: Clock) -> float:
    ids, noise = model.prompt(SCRIPT), mx.zeros((frames, 64))
    begin = clock()
    for step in model.steps(ids, noise=noise, choose=lambda _: model.legal.frame, max_steps=frames):
        mx.eval(step.audio)
    return clock() - begin


def run_peer(model, frames: int, clock: Clock) -> float:
    begin = clock()
    for result in model.generate(SCRIPT, max_tokens=frames, cfg_scale=1.3, ddpm_steps=10):
        mx.eval(result.audio)
    return clock() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    widths = "what the released widths are divided by"
    parser.add_argument("--divisor", type=int, default=3, choices=[1, 2, 3, 4, 6, 12], help=widths)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kernels", action="store_true", help="with kernels that g++ compiles")
    clocks = {"wall": time.perf_counter, "process": time.process_time}
    other = "process: time of all cores, which other programs change less"
    parser.add_argument("--clock", choices=list(clocks), default="wall", help=other)
    args = parser.parse_args()
    clock = clocks[args.clock]
    FUSION.is_on = FUSION.is_on or args.kernels
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_checkpoint(Path(scratch), config(args.divisor))
        ours, peer = vibevoice.load(folder, dtype="float32"), load_peer(folder)
        times: dict[str, list[float]] = {"mlx_voxcpm2": [], "mlx-audio": []}
        runs = ("mlx_voxcpm2", run_ours, ours), ("mlx-audio", run_peer, peer)
        for _, run, model in runs:
            run(model, FEW, clock)
        for _ in range(args.rounds):
            for name, run, model in runs:
                times[name].append(
                    (run(model, MANY, clock) - run(model, FEW, clock)) / (MANY - FEW)
                )
    medians = {name: statistics.median(each) for name, each in times.items()}
    for name, each in times.items():
        shown = " ".join(f"{1000 * seconds:.0f}" for seconds in each)
        print(f"{name:12} {1000 * medians[name]:6.0f} ms per frame   ({shown})")
    pairs = zip(times["mlx-audio"], times["mlx_voxcpm2"], strict=True)
    ratios = sorted(theirs / ours for theirs, ours in pairs)
    spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
    print(f"mlx-audio / mlx_voxcpm2: {statistics.median(ratios):.2f} ({spread})")


if __name__ == "__main__":
    main()
