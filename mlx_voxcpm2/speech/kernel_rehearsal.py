"""The process that compiles a CPU's kernels, by speaking with a small network that uses them.

MLX names a kernel by its operations, types and constants, not by sizes, so two layers of random
weights are enough, of the model's widths. The kernels are compiled in a folder of their own and
copied beside MLX's others when whole, since MLX would load a file that g++ is still writing.
"""

from __future__ import annotations

import os
import pickle
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_map_with_path

from ..files import atomic_write
from ..layers.compiled import FUSION
from ..models.family import Network
from ..models.voxcpm2.network import VoxCPM2Model
from .batch import Request
from .kernel_build import KernelUse, list_name
from .options import GenerationOptions
from .prompt import Prompt
from .scheduler import Scheduler

Trained = TypeVar("Trained", bound=Network)


def small_network(use: KernelUse) -> VoxCPM2Model:
    """A network of the same widths, two layers deep and of random weights."""
    config = use.config
    lm = replace(config.lm_config, num_hidden_layers=2, intermediate_size=256, vocab_size=256)
    small = replace(
        config,
        lm_config=lm,
        encoder_config=replace(config.encoder_config, num_layers=2, ffn_dim=256),
        dit_config=replace(config.dit_config, num_layers=2, ffn_dim=256),
        residual_lm_num_layers=2,
    )
    network = VoxCPM2Model(small)
    return prepared(network, use)


def prepared(network: Trained, use: KernelUse) -> Trained:
    """The network with the layers and types of `use`."""
    if use.quantization is not None:
        group_size, bits, mode = use.quantization

        def has_whole_groups(name: str, layer: nn.Module) -> bool:
            is_layer = isinstance(layer, nn.Linear) and not name.startswith(network.family.float32)
            return is_layer and layer["weight"].shape[-1] % group_size == 0

        nn.quantize(network, group_size, bits, mode=mode, class_predicate=has_whole_groups)

    def cast(name: str, value: mx.array) -> mx.array:
        is_full = name.startswith(network.family.float32)
        if is_full or not mx.issubdtype(value.dtype, mx.floating):
            return value
        is_matrix = value.ndim == 2 and name.endswith(".weight")
        return value.astype(getattr(mx, use.matrices if is_matrix else use.activations))

    network.update(tree_map_with_path(cast, network.parameters()))
    network.eval()
    network.prepare(mx.eval)
    return network


def _pop(requests: list[Request]) -> Request | None:
    return requests.pop() if requests else None


def rehearse(use: KernelUse) -> None:
    """Generates with a small network, so that MLX compiles the kernels of speech."""
    FUSION.is_on = True
    network = small_network(use)
    patches = mx.zeros((4, use.config.patch_size, use.config.feat_dim))
    options = GenerationOptions(seed=0, min_tokens=4)
    prompts = [
        Prompt.build([1] * 20),
        Prompt.build([1] * 12, reference=patches),
        Prompt.build([1] * 24, prompt=patches),
    ]
    for size in (1, 2):
        waiting = [Request(prompt, options, text_tokens=20, limit=3) for prompt in prompts]
        scheduler = Scheduler(network, partial(_pop, waiting), size)
        for chunks in scheduler.chunks():
            mx.eval([chunk.audio for chunk in chunks])


def publish(folder: Path, target: Path, key: str) -> None:
    """Copies finished kernels from one temporary folder to another, and then lists them there."""
    names = [file.relative_to(folder) for file in folder.glob("mlx/**/*.so")]
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        atomic_write(target / name, (folder / name).read_bytes())
    atomic_write(target / list_name(key), "".join(f"{name}\n" for name in names).encode())


def compile_kernels(rehearse: Callable[[KernelUse], None]) -> None:
    """The process that compiles: `KernelUse` and the temporary folder are on standard input."""
    os.nice(5)
    use, target = pickle.load(sys.stdin.buffer)
    folder = Path(os.environ["TMPDIR"])
    try:
        rehearse(use)
        publish(folder, Path(target), use.key)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    compile_kernels(rehearse)
