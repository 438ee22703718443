"""Counts the kernels, casts and host synchronisations of one token of Voxtral, released size.

    python benchmarks/recognition_graph_counts.py [--dtype bfloat16] [--json]

As `graph_counts.py` does for VoxCPM2: the real loop runs on weights without memory. A test calls
`count_token`.
"""

import argparse
import json
import subprocess
import sys

from mlx_voxcpm2.layers.transformer import Transformer  # before MLX: it finds a fast BLAS
from mlx_voxcpm2.models.voxtral.config import VoxtralConfig
from mlx_voxcpm2.models.voxtral.network import VoxtralModel
from mlx_voxcpm2.recognition.voxtral.decoding import Decoded, Sampler, decode

import mlx.core as mx  # isort: skip
from graph_counts import READS, TEXT, WARM_UP, Counts, behave_as_on_gpu  # isort: skip
from graph_nodes import cut, leaf  # isort: skip
from mlx.utils import tree_flatten, tree_map_with_path  # isort: skip


def build_network(dtype: str) -> tuple[VoxtralModel, dict[str, mx.array]]:
    """The network without memory, and the weights of its decoder."""
    # One layer of the encoder, which has no part in a token.
    config = {"model_type": "voxtral", "audio_config": {"num_hidden_layers": 1}}
    network = VoxtralModel(VoxtralConfig.from_dict(config)).eval()
    network.update(
        tree_map_with_path(lambda _, value: leaf(value, getattr(mx, dtype)), network.parameters())
    )
    prepared: list[mx.array] = []
    network.prepare(lambda *trees: prepared.extend(cut(trees)))
    weights = dict(tree_flatten(network.language_model.parameters()))
    known = {id(value) for value in weights.values()}
    fused = [array for array in prepared if array.ndim == 2 and id(array) not in known]
    return network, weights | {f"fused {i}": matrix for i, matrix in enumerate(fused)}


def watch(network: VoxtralModel, weights: dict[str, mx.array]) -> Counts:
    """Has every part of a token and every synchronisation counted from now on."""
    counts, decoder = Counts(weights), network.language_model
    layers = counts.part("layers", Transformer.__call__)
    watched = type("Watched", (Transformer,), {"__call__": lambda *a, **k: layers(*a, **k)})
    decoder.model.__class__ = watched
    decoder.logits = counts.part("head", decoder.logits)
    mx.eval, mx.synchronize, mx.async_eval = counts.wait, counts.wait, counts.between
    for name in READS:
        setattr(mx.array, name, counts.read(getattr(mx.array, name)))
    return counts


def count_here(dtype: str, temperature: float) -> dict:
    """`count_token` in this process, which cannot use MLX for anything else afterwards."""
    behave_as_on_gpu()
    network, weights = build_network(dtype)
    counts = watch(network, weights)
    hidden = network.config.text_config.hidden_size
    embeddings = leaf(mx.zeros((1, TEXT, hidden)), getattr(mx, dtype))
    sampler = Sampler(temperature, top_p=0.95 if temperature else 1.0, seed=0)
    tokens = decode(network, embeddings, 2 * WARM_UP, frozenset(), sampler, Decoded())
    for _ in range(WARM_UP):
        next(tokens)
    counts.clear()
    next(tokens)
    return counts.report()


def count_token(dtype: str = "bfloat16", temperature: float = 0.0) -> dict:
    """Counts for one token, from a process of its own; see `graph_counts.count_graph`."""
    options = ["--dtype", dtype, "--temperature", str(temperature), "--json"]
    return json.loads(subprocess.check_output([sys.executable, __file__, *options]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16", "float32"))
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    report = count_here(args.dtype, args.temperature)
    if args.json:
        return print(json.dumps(report))
    print(f"{'per token':18}{'nodes':>8}{'kernels':>9}{'casts':>7}")
    for name, part in [*report["parts"].items(), ("total", report["total"])]:
        print(f"{name:18}{part['nodes']:8}{part['kernels']:9}{part['casts']:7}")
    print("casts of weights:", len(report["weight_casts"]), *report["weight_casts"][:3])
    print(report["syncs"], f"{report['build_ms']:.1f} ms to build the graph")


if __name__ == "__main__":
    main()
