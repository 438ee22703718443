"""Writes a checkpoint of random weights in upstream's layout, tensor by tensor.

    python benchmarks/random_checkpoint.py FOLDER [--size released]

`tiny` is the tests', `small` a tenth of the released model, both float32; `released` has its size
and its types, 5 GB.
"""

import argparse
import json
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

from mlx_voxcpm2.convert.safetensors_writer import header, write_file

import mlx.core as mx  # isort: skip

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "tests"))

import checkpoints  # noqa: E402
from golden.tokenizer import write_tokenizer  # noqa: E402

SIZES = ("tiny", "small", "released")
SMALL = {
    "purpose": "a tenth of the released model, for timings",
    "lm_config": {
        "hidden_size": 512,
        "intermediate_size": 1536,
        "num_attention_heads": 8,
        "num_hidden_layers": 8,
        "kv_channels": 64,
        "max_position_embeddings": 4096,
        "rope_scaling": {"type": "longrope", "original_max_position_embeddings": 4096},
    },
    "encoder_config": {
        "hidden_dim": 256,
        "ffn_dim": 1024,
        "num_heads": 4,
        "num_layers": 4,
        "kv_channels": 64,
    },
    "dit_config": {
        "hidden_dim": 256,
        "ffn_dim": 1024,
        "num_heads": 4,
        "num_layers": 4,
        "kv_channels": 64,
    },
    "audio_vae_config": {
        "encoder_dim": 32,
        "latent_dim": 64,
        "decoder_dim": 512,
        "encoder_rates": [2, 5, 8, 8],
        "decoder_rates": [8, 6, 5, 2, 2, 2],
    },
    "feat_dim": 64,
    "scalar_quantization_latent_dim": 128,
    "residual_lm_num_layers": 4,
    "max_length": 4096,
}


def config(size: str) -> dict:
    """Content of config.json: the tests' for `tiny`, `SMALL`, or upstream's."""
    if size == "released":
        return json.loads((HERE / "released_config.json").read_text(encoding="utf-8"))
    checkpoints.VARIANTS["small"] = SMALL
    return checkpoints.config({"tiny": "released", "small": "small"}[size])


def tensors(settings: dict, dtype: mx.Dtype) -> dict[str, mx.array]:
    """Weights by upstream's names, uniform, lazy. The AudioVAE's, `audio_vae.`, are float32."""
    found = {}
    for name, shape, low, high in checkpoints.ranges(settings):
        key = mx.random.key(zlib.crc32(name.encode()))
        value = mx.random.uniform(low, high, shape, key=key)
        # With the tests' weights an error of rounding grows from patch to patch.
        value = 0.7 * value if name.endswith("_proj.weight") else value
        found[name] = value if name.startswith("audio_vae.") else value.astype(dtype)
    if boundaries := settings["audio_vae_config"]["sr_bin_boundaries"]:
        found["audio_vae.decoder.sr_bin_boundaries"] = mx.array(boundaries, mx.int32)
    return found


def write_checkpoint(folder: Path, size: str) -> Path:
    """Writes a checkpoint of one of `SIZES`: float32, the released size bfloat16 as upstream's."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = config(size)
    found = tensors(settings, mx.bfloat16 if size == "released" else mx.float32)
    prefix = "audio_vae."
    audio = {name: found.pop(name) for name in list(found) if name.startswith(prefix)}
    audio = {name.removeprefix(prefix): value for name, value in audio.items()}
    for file, contents in (("model", found), ("audiovae", audio)):
        start = header(contents)
        list(write_file(folder / f"{file}.safetensors", start, _drained(contents)))
    (folder / "config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
    write_tokenizer(folder)
    return folder


def _drained(contents: dict[str, mx.array]) -> Iterator[mx.array]:
    """Each tensor, not held here once it is written."""
    for name in list(contents):
        yield contents.pop(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=SIZES, default="released")
    args = parser.parse_args()
    if args.folder.exists():
        parser.error(f"{args.folder} exists; give a new folder")
    write_checkpoint(args.folder, args.size)


if __name__ == "__main__":
    main()
