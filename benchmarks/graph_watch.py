"""What the programs that count the graph of a model's loop share, see `graph_counts.py`.

Each runs the real loop on weights without memory, and counts the nodes of each part's graph, as on
a GPU, instead of computing them; `graph_nodes` says what counts as what.

synchronisation: a read of a value (`item`, `tolist`, `bool`, `int`, `float`), or a wait: `eval` of
    arrays that were not evaluated yet.
"""

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable

from mlx_voxcpm2.models.family import Network  # before MLX: on Linux it finds a fast BLAS

import mlx.core as mx  # isort: skip
import mlx.nn as nn  # isort: skip
from graph_nodes import arrays_in, count_nodes, cut, evaluate, leaf  # isort: skip
from mlx.utils import tree_flatten, tree_map_with_path  # isort: skip

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

    def watch_calls(self, module: nn.Module, part: str) -> None:
        """Has calls of the module counted as a part; Python looks `__call__` up in its class."""
        kind = type(module)
        call = self.part(part, kind.__call__)
        module.__class__ = type("Watched", (kind,), {"__call__": lambda *a, **k: call(*a, **k)})

    def watch_method(self, owner: object, method: str, part: str) -> None:
        """Has calls of an object's method counted as a part."""
        setattr(owner, method, self.part(part, getattr(owner, method)))

    def watch_synchronisation(self) -> None:
        """Has every read and wait of this process counted from now on."""
        mx.eval, mx.synchronize, mx.async_eval = self.wait, self.wait, self.between
        for name in READS:
            setattr(mx.array, name, self.read(getattr(mx.array, name)))

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


def without_memory(network: Network, dtype: str, watched: Callable[[str], bool]) -> dict:
    """Gives the network weights without memory, prepared for use.

    watched: whether casts of the weight of this name are counted; a graph has at most 1024 names.
    Returns the watched weights and the matrices that were prepared, by name.
    """
    network.eval()

    def weight(name: str, value: mx.array) -> mx.array:
        stays = name.startswith(network.family.float32) or not mx.issubdtype(
            value.dtype, mx.floating
        )
        return leaf(value, value.dtype if stays else getattr(mx, dtype))

    network.update(tree_map_with_path(weight, network.parameters()))
    prepared: list[mx.array] = []
    network.prepare(lambda *trees: prepared.extend(cut(trees)))
    weights = dict(tree_flatten(network.parameters()))
    known = {id(value) for value in weights.values()}
    matrices = [array for array in prepared if array.ndim == 2 and id(array) not in known]
    fused = {f"fused {i}": matrix for i, matrix in enumerate(matrices)}
    return {name: value for name, value in weights.items() if watched(name)} | fused


def count_in_a_process(program: str, **options: object) -> dict:
    """Counts from a process of its own, since one that counted can use MLX for nothing else.

    parts: {name: {nodes, kernels, casts}}, "between" being the loop itself; total: their sum;
    weight_casts: names; syncs: {reads, waits}; build_ms: milliseconds of building the graph.
    """
    flags = [f"--{name}={value}" for name, value in options.items()]
    return json.loads(subprocess.check_output([sys.executable, program, *flags, "--json"]))


def main(title: str, unit: str, count: Callable[..., dict], **options: int | float) -> None:
    """Command line of a program: its own options with their defaults, for `count`, and others."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16", "float32"))
    for name, default in options.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    parser.add_argument("--json", action="store_true")
    given = vars(parser.parse_args())
    as_json = given.pop("json")
    report = count(**given)
    if as_json:
        return print(json.dumps(report))
    print(f"{'per ' + unit:18}{'nodes':>8}{'kernels':>9}{'casts':>7}")
    for name, part in [*report["parts"].items(), ("total", report["total"])]:
        print(f"{name:18}{part['nodes']:8}{part['kernels']:9}{part['casts']:7}")
    print("casts of weights:", len(report["weight_casts"]), *report["weight_casts"][:3])
    print(report["syncs"], f"{report['build_ms']:.1f} ms to build the graph")
