"""Writes `adapters/ours/` with this project's code, for the official package to read.

Runs from the folder `tests`, in this project's environment: python -m golden.make_adapter. Then
`record_adapters.py` has the official package load it. `adapters/ours.safetensors` are the hidden
states and the velocity of the variant "released" with it, named as in `record.py`.
"""

import tempfile
from pathlib import Path

from mlx_voxcpm2 import VoxCPM2, load_model  # isort: skip (finds a fast BLAS before MLX is there)

import checkpoints
import mlx.core as mx
import numpy as np
from golden.cases import OUR_ADAPTER
from safetensors.numpy import save_file

from mlx_voxcpm2.models.voxcpm2.lora import LoRASettings
from mlx_voxcpm2.weights.adapter_files import save_adapter
from mlx_voxcpm2.weights.adapters import add_lora, lora_tensors

FOLDER = Path(__file__).parent / "adapters"


def values(model: VoxCPM2, variant: str = "released") -> dict[str, mx.array]:
    """Hidden states of both language models (20, H), a velocity (P, D), of a variant's inputs."""
    config = model.config
    width, patch = config.lm_config.hidden_size, (config.patch_size, config.feat_dim)

    def given(name: str, *shape: int) -> mx.array:
        return mx.array(checkpoints.module_input(name, shape, variant))[None]

    found = {
        name: getattr(model, name)(given(name, 20, width))[0] for name in ("base_lm", "residual_lm")
    }
    found["estimator"] = model.feat_decoder.estimator(
        given("estimator.x", *patch),
        given("estimator.mu", 2, config.dit_config.hidden_dim).reshape(1, -1),
        mx.array([0.37]),
        given("estimator.cond", *patch),
        mx.array([0.0]),
    )[0]
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        checkpoints.write_checkpoint(Path(folder), "released")
        model = load_model(folder, dtype="float32")
    settings = LoRASettings(**OUR_ADAPTER)
    mx.random.seed(0)
    adapter = add_lora(model, settings)
    for layer in adapter.layers.values():
        layer.lora_b = mx.random.uniform(-0.3, 0.3, layer.lora_b.shape)
    ours, tensors = FOLDER / "ours", lora_tensors(model)
    save_adapter(ours, tensors, settings, "openbmb/VoxCPM2", overwrite=ours.exists())
    found = {name: np.array(value) for name, value in values(model).items()}
    save_file(found, FOLDER / "ours.safetensors")


if __name__ == "__main__":
    main()
