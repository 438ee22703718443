"""Counts the kernels, casts and host synchronisations of one patch at the released size.

    python benchmarks/graph_counts.py [--dtype bfloat16] [--custom] [--json]

Runs the real loop, `generate(stream=True)`, on weights without memory, and counts the nodes of
each part's graph, as on a GPU, instead of computing them; `graph_nodes` says what counts as what.
A test calls `count_graph`. --custom counts as if every custom kernel had won its trial.

synchronisation: a read of a value (`item`, `tolist`, `bool`, `int`, `float`), or a wait: `eval` of
    arrays that were not evaluated yet. Each patch has one wait, for its audio.
"""

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from mlx_voxcpm2 import VoxCPM2  # before MLX: on Linux it finds a fast BLAS
from mlx_voxcpm2.layers.custom.kernel import CHOICES
from mlx_voxcpm2.models.voxcpm2.config import VoxCPM2Config

import mlx.core as mx  # isort: skip
from graph_nodes import arrays_in, count_nodes, cut, evaluate, leaf  # isort: skip
from mlx.utils import tree_flatten, tree_map_with_path  # isort: skip

CONFIG = Path(__file__).parent / "released_config.json"
READS = {"item", "tolist", "__bool__", "__int__", "__float__"} & set(dir(mx.array))
COUNTED = ("nodes", "kernels", "casts")
# Positions of text, and chunks of the stream after which every cache is in its steady state.
TEXT, WARM_UP = 37, 3


class Counts:
    """Counts by part of the model, collected while it runs."""

    def __init__(self, weights: dict[str, mx.array]):
        self.weights, self.waited = weights, []
        self.clear()

    def clear(self) -> None:
        self.parts: dict[str, Counter] = {}
        self.syncs, self.seconds = {"reads": 0, "waits": 0}, 0.0

    def add(self, part: str, arrays: list[mx.array]) -> None:
        self.parts.setdefault(part, Counter()).update(count_nodes(arrays, self.weights))

    def between(self, *trees: object) -> None:
        """Counts the loop's own nodes behind these arrays, which are few, and evaluates them."""
        if arrays := arrays_in(trees):
            self.add("between", arrays)
            evaluate(arrays)

    def wait(self, *trees: object) -> None:
        arrays = arrays_in(trees)
        self.syncs["waits"] += not {id(array) for array in arrays} <= {id(a) for a in self.waited}
        self.waited += arrays  # references, so that no other array gets their ids
        self.between(arrays)

    def part(self, name: str, function: Callable) -> Callable:
        """The function, counted; its results and caches become leaves of the graph."""

        def counted(*args, **kwargs):
            self.between(args, kwargs)
            begin = time.perf_counter()
            result = function(*args, **kwargs)
            self.seconds += time.perf_counter() - begin
            self.add(name, arrays_in((result, args, kwargs)))
            cut(result, args, kwargs)
            return result

        return counted

    def read(self, function: Callable) -> Callable:
        def counted(array: mx.array):
            self.syncs["reads"] += 1
            return function(array)

        return counted

    def report(self) -> dict:
        total = sum(self.parts.values(), Counter())
        return {
            "parts": {part: {n: found[n] for n in COUNTED} for part, found in self.parts.items()},
            "total": {name: total[name] for name in COUNTED},
            "weight_casts": [name[7:] for name in total if name.startswith("weight ")],
            "syncs": self.syncs,
            "build_ms": 1000 * self.seconds,
        }


def one_node(x: mx.array, *others: object) -> mx.array:
    """x through one node that depends on all arrays, cast to one type as mx.fast does on a GPU."""
    arrays = [x, *(other for other in others if isinstance(other, mx.array))]
    types = {array.dtype for array in arrays if mx.issubdtype(array.dtype, mx.floating)}
    common = max(types, key=lambda kind: kind.size)
    x, *rest = (a.astype(common) if a.dtype in types else a for a in arrays)
    return mx.depends([x], rest)[0]


def attention(q: mx.array, k: mx.array, v: mx.array, mask=None, **_: object) -> mx.array:
    """One kernel; four for up to 8 queries of so many heads, for which Metal has no fused one."""
    queries, heads = q.shape[2], q.shape[1] // k.shape[1]
    for _ in range(3 if queries <= 8 and queries * heads > 32 else 0):
        q = one_node(q)
    return one_node(q, k, v, mask)


def behave_as_on_gpu() -> None:
    """Replaces the functions of mx.fast, which become a dozen nodes each on a CPU, by one node."""
    mx.default_device = lambda: mx.Device(mx.gpu)
    mx.fast.rms_norm = lambda x, weight, eps, **_: one_node(x, weight)
    mx.fast.rope = lambda x, dims, **settings: mx.depends([x], arrays_in(settings))[0]
    mx.fast.scaled_dot_product_attention = attention


def win_all_trials() -> None:
    """Uses every custom kernel, as one node."""

    def launch(inputs, output_shapes, output_dtypes, **_: object) -> list[mx.array]:
        types = zip(output_shapes, output_dtypes, strict=True)
        return mx.depends([leaf(mx.zeros(shape), dtype) for shape, dtype in types], inputs)

    mx.metal.is_available = lambda: True
    mx.fast.metal_kernel = lambda **_: launch
    CHOICES.noted = set()
    CHOICES.variant = lambda operation: operation.variants[0]


def build_model(dtype: str) -> tuple[VoxCPM2, dict[str, mx.array]]:
    """The released model without memory, with `TEXT` tokens for every text; and its weights."""
    config = VoxCPM2Config.from_dict(json.loads(CONFIG.read_text()))
    model = VoxCPM2(config, lambda text: [5] * TEXT)
    model.eval()

    def weight(name: str, value: mx.array) -> mx.array:
        is_cast = mx.issubdtype(value.dtype, mx.floating) and not name.startswith("audio_vae.")
        return leaf(value, getattr(mx, dtype) if is_cast else value.dtype)

    model.update(tree_map_with_path(weight, model.parameters()))
    prepared = []
    model.prepare(lambda *trees: prepared.extend(cut(trees)))
    weights = dict(tree_flatten(model.parameters()))
    known = {id(value) for value in weights.values()}
    matrices = [array for array in prepared if array.ndim == 2 and id(array) not in known]
    return model, weights | {f"fused {i}": matrix for i, matrix in enumerate(matrices)}


def watch(model: VoxCPM2, weights: dict[str, mx.array]) -> Counts:
    """Has every part of the loop and every synchronisation counted from now on."""
    counts = Counts(weights)
    step = counts.part("language models", VoxCPM2.__call__)
    model.__class__ = type("Watched", (VoxCPM2,), {"__call__": lambda *a, **k: step(*a, **k)})
    for owner, method, part in (
        (model, "embed_patches", "local encoder"),
        (model, "stop_logits", "stop head"),
        (model, "sample_patch", "DiT solve"),
        (model.audio_vae, "decode", "AudioVAE"),
    ):
        setattr(owner, method, counts.part(part, getattr(owner, method)))
    mx.eval, mx.synchronize, mx.async_eval = counts.wait, counts.wait, counts.between
    for name in READS:
        setattr(mx.array, name, counts.read(getattr(mx.array, name)))
    return counts


def count_here(dtype: str, steps: int, custom: bool) -> dict:
    """`count_graph` in this process, which cannot use MLX for anything else afterwards."""
    behave_as_on_gpu()
    if custom:
        win_all_trials()
    model, weights = build_model(dtype)
    counts = watch(model, weights)
    results = model.generate("a", stream=True, seed=0, inference_timesteps=steps)
    for _ in range(WARM_UP):
        next(results)
    counts.clear()
    next(results)
    return counts.report()


def count_graph(dtype: str = "bfloat16", steps: int = 10, custom: bool = False) -> dict:
    """Counts for one patch, after some forty positions, from a process of its own.

    custom: with every custom kernel.
    parts: {name: {nodes, kernels, casts}}, "between" being the loop itself; total: their sum;
    weight_casts: names; syncs: {reads, waits}; build_ms: milliseconds of building the graph.
    """
    command = [sys.executable, __file__, "--dtype", dtype, "--steps", str(steps), "--json"]
    command += ["--custom"] * custom
    return json.loads(subprocess.check_output(command))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16", "float32"))
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--custom", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    report = count_here(args.dtype, args.steps, args.custom)
    if args.json:
        return print(json.dumps(report))
    print(f"{'per patch':18}{'nodes':>8}{'kernels':>9}{'casts':>7}")
    for name, part in [*report["parts"].items(), ("total", report["total"])]:
        print(f"{name:18}{part['nodes']:8}{part['kernels']:9}{part['casts']:7}")
    print("casts of weights:", len(report["weight_casts"]), *report["weight_casts"][:3])
    print(report["syncs"], f"{report['build_ms']:.1f} ms to build the graph")


if __name__ == "__main__":
    main()
