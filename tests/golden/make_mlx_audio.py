"""Converts the variant `exchange` with mlx-audio, whose files the loader must take.

It needs an environment of its own, and runs from the folder `tests`:

    pip install "mlx[cpu]" mlx-audio==0.6.2 torch
    python -m golden.make_mlx_audio

Written are mlx_audio_bf16, mlx_audio_8bit and mlx_audio_4bit, each as .safetensors and .json (its
config.json).
"""

import shutil
import tempfile
from pathlib import Path

import checkpoints
import torch
from mlx_audio.convert import convert
from safetensors.torch import load_file

HERE = Path(__file__).parent
PRECISIONS = {
    "bf16": {"dtype": "bfloat16"},
    "8bit": {"dtype": "bfloat16", "quantize": True, "q_bits": 8, "q_group_size": 32},
    "4bit": {"dtype": "bfloat16", "quantize": True, "q_bits": 4, "q_group_size": 32},
}


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        source = checkpoints.write_checkpoint(Path(temporary) / "source", "exchange")
        # It takes upstream's AudioVAE as a .pth only.
        tensors = source / "audiovae.safetensors"
        torch.save({"state_dict": load_file(tensors)}, source / "audiovae.pth")
        tensors.unlink()
        for name, options in PRECISIONS.items():
            target = Path(temporary) / name
            convert(str(source), str(target), model_domain="tts", **options)
            shutil.copy(target / "model.safetensors", HERE / f"mlx_audio_{name}.safetensors")
            shutil.copy(target / "config.json", HERE / f"mlx_audio_{name}.json")


if __name__ == "__main__":
    main()
