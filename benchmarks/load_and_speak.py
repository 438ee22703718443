"""How long does a checkpoint take to load, how much memory, and how fast does it speak?

    python benchmarks/load_and_speak.py PATH_OR_REPO [--dtype float32] [--patches 10] [--text TEXT]

The stop head is not heard, so that any checkpoint, also one of random values, speaks the same
number of patches of 160 ms; from 60 on it says whether the last ones take longer. Memory is the
process's largest resident set, and MLX's own peak.
"""

import argparse
import statistics
import time

from mlx_voxcpm2 import load_model  # before MLX: on Linux it finds a fast BLAS
from mlx_voxcpm2.commands.machine import resident_peak_bytes
from mlx_voxcpm2.layers.compiled import FUSION

import mlx.core as mx  # isort: skip
from mlx.utils import tree_flatten  # isort: skip


def resident_gigabytes() -> float:
    return resident_peak_bytes() / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--dtype")
    parser.add_argument("--patches", type=int, default=10)
    parser.add_argument("--text", default="Hello world, this is a test of the released size.")
    args = parser.parse_args()
    FUSION.is_on = True  # the speed of long speech
    before = resident_gigabytes()
    start = time.perf_counter()
    model = load_model(args.model, args.dtype)
    loaded = time.perf_counter() - start
    size = sum(value.nbytes for _, value in tree_flatten(model.parameters())) / 1e9
    print(f"device: {mx.default_device()}, activations: {model.dtype}")
    print(f"loaded in {loaded:.1f} s: weights {size:.2f} GB")
    print(
        f"peak while loading: resident {resident_gigabytes() - before:.2f} GB, "
        f"{(resident_gigabytes() - before) / size:.2f} times the weights"
    )
    results = model.generate(
        args.text, min_tokens=args.patches, max_tokens=args.patches, seed=0, stream=True
    )
    times = [result.processing_time_seconds for result in results]
    speech = len(times) * model.patch_samples / model.sample_rate
    print(
        f"first sound after {times[0]:.2f} s, then {sum(times[1:]) / (len(times) - 1):.2f} s/patch"
    )
    print(f"{speech:.2f} s of speech in {sum(times):.2f} s, {speech / sum(times):.3f} x real time")
    if len(times) >= 60:
        early, late = statistics.median(times[5:16]), statistics.median(times[-11:])
        print(f"patches {len(times) - 10} to {len(times)} take {late / early:.2f} times 6 to 16")
    print(f"peak: resident {resident_gigabytes():.2f} GB, MLX {mx.get_peak_memory() / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
