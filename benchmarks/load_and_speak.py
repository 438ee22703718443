"""How long does a checkpoint take to load, how much memory, and how fast does it speak?

    python benchmarks/load_and_speak.py PATH_OR_REPO [--dtype float32] [--patches 10] [--text TEXT]
        [--short] [--json PATH]

The stop head is not heard, so that any checkpoint, also one of random values, speaks the same
number of patches of 160 ms; from 60 on it says whether the last ones take longer. Memory is what
the process's largest resident set has grown by since its start, and MLX's own peak. With --short a
CPU compiles no kernels, as for a short text.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

from mlx_voxcpm2 import load_model  # before MLX: on Linux it finds a fast BLAS
from mlx_voxcpm2.commands.machine import resident_peak_bytes
from mlx_voxcpm2.layers.compiled import FUSION

import mlx.core as mx  # isort: skip
from mlx.utils import tree_flatten  # isort: skip


def measure(args: argparse.Namespace) -> dict:
    """Seconds and bytes. `first_sound_at` is the time of day, for who started the process."""
    FUSION.is_on |= not args.short  # the speed of long speech
    before = resident_peak_bytes()

    def peaks() -> dict[str, int]:
        found = {"resident": resident_peak_bytes() - before, "mlx": mx.get_peak_memory()}
        mx.reset_peak_memory()
        return found

    start = time.perf_counter()
    model = load_model(args.model, args.dtype)
    found: dict = {
        "device": str(mx.default_device()),
        "dtype": str(model.dtype),
        "load_seconds": time.perf_counter() - start,
        "weight_bytes": sum(value.nbytes for _, value in tree_flatten(model.parameters())),
        "loading": peaks(),
        "patch_seconds": model.patch_samples / model.sample_rate,
    }
    times = []
    for result in model.generate(
        args.text, min_tokens=args.patches, max_tokens=args.patches, seed=0, stream=True
    ):
        found.setdefault("first_sound_at", time.time())
        times.append(result.processing_time_seconds)
    return found | {"speaking": peaks(), "seconds": times}


def print_report(found: dict) -> None:
    weights, times = found["weight_bytes"], found["seconds"]
    print(f"device: {found['device']}, activations: {found['dtype']}")
    print(f"loaded in {found['load_seconds']:.1f} s: weights {weights / 1e9:.2f} GB")
    for what in ("loading", "speaking"):
        sizes = [
            f"{name} {size / 1e9:.2f} GB, {size / weights:.2f} times the weights"
            for name, size in found[what].items()
        ]
        print(f"peak while {what}: {'; '.join(sizes)}")
    speech = len(times) * found["patch_seconds"]
    print(f"first sound after {times[0]:.2f} s", end="")
    print(f", then {statistics.mean(times[1:]):.2f} s/patch" if len(times) > 1 else "")
    print(f"{speech:.2f} s of speech in {sum(times):.2f} s, {speech / sum(times):.3f} x real time")
    if len(times) >= 60:
        early, late = statistics.median(times[5:16]), statistics.median(times[-11:])
        print(f"patches {len(times) - 10} to {len(times)} take {late / early:.2f} times 6 to 16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--dtype")
    parser.add_argument("--patches", type=int, default=10)
    parser.add_argument("--text", default="Hello world, this is a test of the released size.")
    parser.add_argument("--short", action="store_true", help="without a CPU's compiled kernels")
    parser.add_argument("--json", type=Path, metavar="PATH")
    args = parser.parse_args()
    found = measure(args)
    print_report(found)
    if args.json:
        args.json.write_text(json.dumps(found, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
