"""Counts the kernels, casts and host synchronisations of one patch at the released size.

    python benchmarks/graph_counts.py [--dtype bfloat16] [--custom 1] [--json]

Runs the real loop, `generate(stream=True)`, as `graph_watch` says, which tells what is counted.
Each patch has one wait, for its audio. A test calls `count_graph`. --custom 1 counts as if every
custom kernel had won its trial.
"""

import json
from pathlib import Path

from mlx_voxcpm2 import VoxCPM2  # before MLX: on Linux it finds a fast BLAS
from mlx_voxcpm2.layers.custom.kernel import CHOICES
from mlx_voxcpm2.models.voxcpm2.config import VoxCPM2Config

from graph_watch import (  # isort: skip
    TEXT,
    WARM_UP,
    Counts,
    behave_as_on_gpu,
    count_in_a_process,
    main,
    without_memory,
)
import mlx.core as mx  # isort: skip
from graph_nodes import leaf  # isort: skip

CONFIG = Path(__file__).parent / "released_config.json"


def build_model() -> VoxCPM2:
    """The released model, with `TEXT` tokens for every text."""
    config = VoxCPM2Config.from_dict(json.loads(CONFIG.read_text()))
    return VoxCPM2(config, lambda text: [5] * TEXT)


def win_all_trials() -> None:
    """Uses every custom kernel, as one node."""

    def launch(inputs, output_shapes, output_dtypes, **_: object) -> list[mx.array]:
        types = zip(output_shapes, output_dtypes, strict=True)
        return mx.depends([leaf(mx.zeros(shape), dtype) for shape, dtype in types], inputs)

    mx.metal.is_available = lambda: True
    mx.fast.metal_kernel = lambda **_: launch
    CHOICES.noted = set()
    CHOICES.variant = lambda operation: operation.variants[0]


def count_here(dtype: str, steps: int, custom: int) -> dict:
    """`count_graph` in this process, which cannot use MLX for anything else afterwards."""
    behave_as_on_gpu()
    if custom:
        win_all_trials()
    model = build_model()
    counts = Counts(without_memory(model, dtype, lambda name: True))
    counts.watch_calls(model, "language models")
    for owner, method, part in (
        (model, "embed_patches", "local encoder"),
        (model, "stop_logits", "stop head"),
        (model, "sample_patch", "DiT solve"),
        (model.audio_vae, "decode", "AudioVAE"),
    ):
        counts.watch_method(owner, method, part)
    counts.watch_synchronisation()
    results = model.generate("a", stream=True, seed=0, inference_timesteps=steps)
    for _ in range(WARM_UP):
        next(results)
    counts.clear()
    next(results)
    return counts.report()


def count_graph(dtype: str = "bfloat16", steps: int = 10, custom: bool = False) -> dict:
    """Counts for one patch, after some forty positions, see `count_in_a_process`.

    custom: with every custom kernel.
    """
    return count_in_a_process(__file__, dtype=dtype, steps=steps, custom=int(custom))


if __name__ == "__main__":
    main(__doc__.splitlines()[0], "patch", count_here, steps=10, custom=0)
