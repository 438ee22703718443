"""Compares the speed of this package's CPU kernels with that of MLX's own functions.

    python benchmarks/kernels.py [--rounds 300]

Each kernel of `layers/kernels_cpu.py` and the function that it replaces are called in turn on the
same arrays, whose shapes occur at the released size. Prints the medians and their ratio, of
processor time for the elementwise kernels, which take one core, and of real time for products.
"""

import argparse
import statistics
import time
from collections.abc import Callable

# Before MLX: it finds a fast BLAS.
from mlx_voxcpm2.layers import kernels, kernels_cpu, kernels_gpu, products_cpu  # isort: skip

import mlx.core as mx  # isort: skip
import mlx.nn as nn  # isort: skip

Variants = tuple[Callable[[], mx.array], Callable[[], mx.array]]


def normal(*shape: int) -> mx.array:
    array = mx.random.normal(shape)
    mx.eval(array)
    return array


def elementwise() -> dict[str, Variants]:
    """The kernel and MLX's own function, by name."""
    x, weight, up = normal(1, 1024), normal(1024), normal(22, 4096)
    gate = normal(22, 4096)
    audio, bias = normal(1, 7680, 64), normal(64)
    constants = kernels.SnakeConstants.of(mx.abs(normal(64)) + 0.1)
    taps, terms = [normal(64) for _ in range(7)], [normal(1, 7680, 64) for _ in range(7)]
    few, few_taps = normal(1, 14, 1024), normal(7, 1024)
    mx.eval(constants)
    alpha, frequency, amplitude = constants
    return {
        "rms_norm (1, 1024)": (
            lambda: kernels_cpu.rms_norm(x, weight, 1e-5),
            lambda: kernels_gpu.rms_norm(x, weight, 1e-5),
        ),
        "swiglu (22, 4096)": (
            lambda: kernels_cpu.swiglu(gate, up),
            lambda: kernels_gpu.swiglu(gate, up),
        ),
        "snake (1, 7680, 64)": (
            lambda: kernels_cpu.snake(audio, bias, frequency, amplitude),
            lambda: kernels_gpu.snake(audio, bias, alpha, amplitude),
        ),
        "weighted_sum of 7 (1, 7680, 64)": (
            lambda: kernels_cpu.weighted_sum(taps, terms),
            lambda: kernels_gpu.weighted_sum(taps, terms),
        ),
        "depthwise of 7 (1, 8, 1024)": (
            lambda: kernels_cpu.depthwise(few, few_taps, 1),
            lambda: kernels_gpu.depthwise(few, few_taps, 1),
        ),
    }


def products(rows: int) -> dict[str, Variants]:
    """x (rows, 2048) times a matrix (6144, 2048), by the kernel and by MLX's layer; by name."""
    x, layer = normal(rows, 2048), nn.Linear(2048, 6144, bias=False)
    narrow, quantised = nn.Linear(2048, 6144, bias=False), layer.to_quantized(64, 8)
    narrow.set_dtype(mx.bfloat16)
    mx.eval(narrow, quantised)
    return {
        f"{name}, {rows} rows": (
            lambda layer=layer: products_cpu.linear(layer, x),
            lambda layer=layer: kernels_gpu.linear(layer, x),
        )
        for name, layer in {"bfloat16 weights": narrow, "8-bit weights": quantised}.items()
    }


def report(cases: dict[str, Variants], rounds: int, clock: Callable[[], float]) -> None:
    def seconds(function: Callable[[], mx.array]) -> float:
        begin = clock()
        mx.eval(function())
        return clock() - begin

    for name, variants in cases.items():
        times = [[seconds(variant) for variant in variants] for _ in range(rounds)]
        ours, theirs = (1000 * statistics.median(each) for each in zip(*times, strict=True))
        print(f"{name:36}{ours:9.3f}{theirs:9.3f}{theirs / ours:8.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=300)
    args = parser.parse_args()
    print(f"{'medians in ms':36}{'kernel':>9}{'MLX':>9}{'ratio':>8}")
    report(elementwise(), args.rounds, time.process_time)
    report(products(1) | products(22), args.rounds // 10, time.perf_counter)


if __name__ == "__main__":
    main()
