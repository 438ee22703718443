"""How much more do several requests spoken together give than one after another?

    python benchmarks/batch.py (PATH_OR_REPO | --size small) [--dtype float32]
        [--batch 1 2 4 8 16] [--patches 25] [--rounds 5] [--json PATH]

Texts of different lengths, each with its own seed, in one pass; the stop head is not heard, so
that all rows have the same number of patches. The sizes take turns in every round, and a ratio is
the median over rounds. Time is from the call to the last sample, so with prefill and AudioVAE.
"first sound" is when every row has its first patch, "error" how far the first row is from what it
is alone, over its first three patches. `small` is a tenth of the released model, of random weights.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from mlx_voxcpm2 import load_model  # before MLX: on Linux it finds a fast BLAS
from mlx_voxcpm2.commands.speed import COMPARED, Speech, speak
from mlx_voxcpm2.layers.compiled import FUSION
from mlx_voxcpm2.model import VoxCPM2

import mlx.core as mx  # isort: skip
from random_checkpoint import SIZES, write_checkpoint  # isort: skip


def relative_error(ours: mx.array, theirs: mx.array) -> float:
    return (mx.linalg.norm(ours - theirs) / mx.linalg.norm(theirs)).item()


def measure(model: VoxCPM2, args: argparse.Namespace) -> dict[int, list[Speech]]:
    FUSION.is_on = True  # the speed of long speech
    for count in args.batch:  # compiles, reads weights
        speak(model, count, 2)
    rounds: dict[int, list[Speech]] = {count: [] for count in args.batch}
    for _ in range(args.rounds):
        for count in args.batch:
            rounds[count].append(speak(model, count, args.patches))
    return rounds


def summarise(model: VoxCPM2, patches: int, rounds: dict[int, list[Speech]]) -> list[dict]:
    alone = speak(model, 1, COMPARED).start
    single = [found.seconds for found in next(iter(rounds.values()))]
    least, second = next(iter(rounds)), model.patch_samples / model.sample_rate
    rows = []
    for count, found in rounds.items():
        times = [each.seconds for each in found]
        gains = [count / least * one / many for one, many in zip(single, times, strict=True)]
        rows.append(
            {
                "batch": count,
                "ms_per_step": 1000 * statistics.median(times) / patches,
                "patches_per_second": count * patches / statistics.median(times),
                "gain": [statistics.median(gains), min(gains), max(gains)],
                "times_real_time": count * patches * second / statistics.median(times),
                "first_sound_ms": 1000 * statistics.median(each.first for each in found),
                "peak_bytes": max(each.peak_bytes for each in found),
                "error": relative_error(found[0].start, alone),
            }
        )
    return rows


def print_table(rows: list[dict]) -> None:
    least = rows[0]["batch"]
    gain = f"gain on {least} (range)"
    print(f"{'batch':>5}{'ms/step':>9}{'patches/s':>11}{gain:>24}{'x real time':>13}", end="")
    print(f"{'first sound':>13}{'peak GB':>9}{'error':>10}")
    for row in rows:
        middle, low, high = row["gain"]
        gain = f"{middle:.2f} ({low:.2f}-{high:.2f})"
        print(
            f"{row['batch']:5}{row['ms_per_step']:9.1f}{row['patches_per_second']:11.1f}{gain:>24}"
            f"{row['times_real_time']:13.2f}{row['first_sound_ms']:10.0f} ms"
            f"{row['peak_bytes'] / 1e9:9.2f}{row['error']:10.1e}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", metavar="PATH_OR_REPO")
    parser.add_argument("--size", choices=SIZES, help="of a checkpoint made here")
    parser.add_argument("--dtype")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--patches", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="PATH")
    args = parser.parse_args()
    if (args.model is None) == (args.size is None):
        parser.error("give either PATH_OR_REPO or --size")
    if min(*args.batch, args.rounds) < 1 or args.patches < COMPARED:
        parser.error(f"--batch and --rounds must be 1 or more, --patches {COMPARED} or more")
    with tempfile.TemporaryDirectory() as place:
        source = args.model or write_checkpoint(Path(place) / "made", args.size)
        try:
            model = load_model(source, args.dtype)
        except (ValueError, OSError) as error:
            print(f"batch.py: {error}", file=sys.stderr)
            sys.exit(2)
    print(f"{mx.default_device()}, {model.dtype}, {args.patches} patches, {args.rounds} rounds")
    rows = summarise(model, args.patches, measure(model, args))
    print_table(rows)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
