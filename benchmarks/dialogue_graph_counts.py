"""Counts the kernels, casts and host synchronisations of a VibeVoice frame at the released size.

    python benchmarks/dialogue_graph_counts.py [--dtype bfloat16] [--json]

As `graph_counts.py` does for VoxCPM2: the real loop runs on weights without memory, and always
chooses the next frame. A test calls `count_frame`.
"""

import argparse
import json
import subprocess
import sys

from mlx_voxcpm2.layers.transformer import Transformer  # before MLX: it finds a fast BLAS
from mlx_voxcpm2.models.vibevoice.config import CodecConfig, HeadConfig, VibeVoiceConfig
from mlx_voxcpm2.models.vibevoice.network import VibeVoiceNetwork
from mlx_voxcpm2.models.vibevoice.solver import Solver
from mlx_voxcpm2.vibevoice.script import LegalTokens
from mlx_voxcpm2.vibevoice.steps import Batch, Row

import mlx.core as mx  # isort: skip
from graph_counts import READS, TEXT, WARM_UP, Counts, behave_as_on_gpu  # isort: skip
from graph_nodes import cut, leaf  # isort: skip
from mlx.utils import tree_flatten, tree_map_with_path  # isort: skip

from mlx_voxcpm2.layers.config import TransformerConfig

LEGAL = LegalTokens(151652, 151653, 151654, 151643)


def released_config() -> VibeVoiceConfig:
    """The configuration of VibeVoice 1.5B."""
    decoder = TransformerConfig(
        hidden_size=1536,
        intermediate_size=8960,
        num_hidden_layers=28,
        num_attention_heads=12,
        num_key_value_heads=2,
        max_position_embeddings=1024,  # 65536, which only sizes the RoPE tables
        rms_norm_eps=1e-6,
        vocab_size=151936,
        qkv_bias=True,
        rope_theta=1e6,
    )
    return VibeVoiceConfig(decoder, CodecConfig(64), CodecConfig(128), HeadConfig(64, 1536, 4608))


def build_network(dtype: str) -> tuple[VibeVoiceNetwork, dict[str, mx.array]]:
    """The network without memory, and its weights."""
    network = VibeVoiceNetwork(released_config())
    network.eval()
    full = network.family.float32

    def weight(name: str, value: mx.array) -> mx.array:
        return leaf(value, value.dtype if name.startswith(full) else getattr(mx, dtype))

    network.update(tree_map_with_path(weight, network.parameters()))
    prepared: list[mx.array] = []
    network.prepare(lambda *trees: prepared.extend(cut(trees)))
    # The codecs', which are float32, are left out: a graph has at most 1024 names.
    named = tree_flatten(network.parameters())
    weights = {name: value for name, value in named if not name.startswith(full)}
    known = {id(value) for value in weights.values()}
    fused = [array for array in prepared if array.ndim == 2 and id(array) not in known]
    return network, weights | {f"fused {i}": matrix for i, matrix in enumerate(fused)}


def watch(network: VibeVoiceNetwork, weights: dict[str, mx.array]) -> Counts:
    """Has every part of a frame and every synchronisation counted from now on."""
    counts = Counts(weights)
    step = counts.part("language model", Transformer.__call__)
    watched = type("Watched", (Transformer,), {"__call__": lambda *a, **k: step(*a, **k)})
    network.language_model.__class__ = watched
    for method, part in (("sample_latent", "diffusion head"), ("speak_frame", "codecs")):
        setattr(network, method, counts.part(part, getattr(network, method)))

    def always_a_frame(batch: Batch, choose: object) -> list[int]:
        batch._choices.tolist()
        return [LEGAL.frame for _ in batch.rows]

    Batch._tokens = always_a_frame
    mx.eval, mx.synchronize, mx.async_eval = counts.wait, counts.wait, counts.between
    for name in READS:
        setattr(mx.array, name, counts.read(getattr(mx.array, name)))
    return counts


def count_here(dtype: str, steps: int) -> dict:
    """`count_frame` in this process, which cannot use MLX for anything else afterwards."""
    behave_as_on_gpu()
    network, weights = build_network(dtype)
    counts = watch(network, weights)
    embeddings = leaf(mx.zeros((TEXT, 1536)), getattr(mx, dtype))
    noise = iter([leaf(mx.zeros((64,)))] * 2 * WARM_UP)
    row = Row(0, [5] * TEXT, embeddings, noise, 2 * WARM_UP)
    batch = Batch(network, LEGAL, [row], Solver(steps), 1.3)
    for frame in range(WARM_UP + 1):
        if frame == WARM_UP:
            counts.clear()
        ((_, step),) = batch.step()
        batch.submit(step.audio)
        mx.eval(step.audio)
    return counts.report()


def count_frame(dtype: str = "bfloat16", steps: int = 10) -> dict:
    """Counts for one frame, from a process of its own; see `graph_counts.count_graph`."""
    command = [sys.executable, __file__, "--dtype", dtype, "--steps", str(steps), "--json"]
    return json.loads(subprocess.check_output(command))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16", "float32"))
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    report = count_here(args.dtype, args.steps)
    if args.json:
        return print(json.dumps(report))
    print(f"{'per frame':18}{'nodes':>8}{'kernels':>9}{'casts':>7}")
    for name, part in [*report["parts"].items(), ("total", report["total"])]:
        print(f"{name:18}{part['nodes']:8}{part['kernels']:9}{part['casts']:7}")
    print("casts of weights:", len(report["weight_casts"]), *report["weight_casts"][:3])
    print(report["syncs"], f"{report['build_ms']:.1f} ms to build the graph")


if __name__ == "__main__":
    main()
