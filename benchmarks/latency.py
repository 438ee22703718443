"""What do a voice, a full batch and a long sequence add to a patch?

    python benchmarks/latency.py [PATH_OR_REPO] [--dtype float32] [--rounds 5]
        [--what voices batch fast length] [--json PATH]

Without a path: `small` of speed.py, a tenth of the released model, of random weights. The stop head
is not heard. Times are the processor's on a CPU, so that other work on the machine counts little;
set OPENBLAS_NUM_THREADS=1 beside them.

- voices: milliseconds until the first sound without a reference, of the first text in a voice, and
  of the next, whose reference the model has read before; turns alternate.
- batch: milliseconds per step of 16 rows while the batch is full; rows that all begin and end
  together, and rows of 12 to 36 patches, each of which is replaced when it ends.
- fast: milliseconds per patch with and without the option `fast`, in turn.
- length: milliseconds per patch along a sequence as long as the context.
"""

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from mlx_voxcpm2 import load_model  # before MLX: on Linux it finds a fast BLAS
from mlx_voxcpm2.commands.speed import TEXT
from mlx_voxcpm2.layers import device
from mlx_voxcpm2.layers.compiled import FUSION
from mlx_voxcpm2.model import VoxCPM2
from mlx_voxcpm2.speech.batch import Request
from mlx_voxcpm2.speech.generation import stream_audio
from mlx_voxcpm2.speech.scheduler import Scheduler

import mlx.core as mx  # isort: skip
from random_checkpoint import write_checkpoint  # isort: skip

ROWS = 16
PATCHES, SPREAD = 24, 12
"""Patches of a row in a batch: all the same, or that many more or less."""
BLOCK = 512


def clock() -> float:
    return time.process_time() if device.on_cpu() else time.perf_counter()


def shown(milliseconds: Sequence[float]) -> str:
    middle = statistics.median(milliseconds)
    return f"{middle:.1f} ms ({min(milliseconds):.1f}-{max(milliseconds):.1f})"


def request(model: VoxCPM2, patches: int, **voice) -> Request:
    return model.request(TEXT, seed=0, min_tokens=patches, max_tokens=patches, **voice)


def first_sound(model: VoxCPM2, wanted: Request) -> float:
    """Milliseconds until the first audio."""
    begin = clock()
    for chunks in stream_audio(model, [wanted]):
        mx.eval([chunk.audio for chunk in chunks])
        return 1000 * (clock() - begin)
    return 0.0


def voices(model: VoxCPM2, rounds: int) -> dict[int, dict[str, list[float]]]:
    """Milliseconds until the first sound by seconds of reference."""
    shape = (model.config.patch_size, model.config.feat_dim)
    patch = model.patch_samples / model.sample_rate
    found = {}
    for seconds in (0, 5, 10, 30):
        clip = mx.random.normal((int(seconds / patch), *shape), key=mx.random.key(0))
        wanted = request(model, 1, **({"ref_audio": clip} if seconds else {}))
        times: dict[str, list[float]] = {"first": [], "next": []}
        for _ in range(rounds + 1):  # of the first round kernels are compiled
            model.prefixes.clear()
            for spent in times.values():
                spent.append(first_sound(model, wanted))
        found[seconds] = {name: spent[1:] for name, spent in times.items()}
        first, following = map(shown, found[seconds].values())
        print(f"reference of {seconds:2} s: first text {first}, next {following}")
    return found


def steps(model: VoxCPM2, lengths: Iterator[int], count: int) -> float:
    """Milliseconds per step of a full batch, over so many requests; the rest finish uncounted."""
    wanted = (request(model, patches) for patches in itertools.islice(lengths, count))
    scheduler = Scheduler(model, lambda: next(wanted, None), ROWS)
    begin, done, spent = clock(), 0, 0.0
    for chunks in scheduler.chunks():
        mx.eval([chunk.audio for chunk in chunks])
        if len(chunks) == ROWS and scheduler.count < count:
            done, spent = done + 1, clock() - begin
    return 1000 * spent / done


def batch(model: VoxCPM2, rounds: int) -> dict[str, list[float]]:
    """Milliseconds per step of rows that begin together, of replaced ones, and the ratios."""
    count = 4 * ROWS
    between = [PATCHES - SPREAD + (7 * row) % (2 * SPREAD + 1) for row in range(count)]
    turns = []
    for _ in range(rounds):
        together = steps(model, itertools.repeat(PATCHES), count)
        replaced = steps(model, itertools.cycle(between), count)
        turns.append((together, replaced))
        print(f"{ROWS} rows: {together:.1f} ms a step together, {replaced:.1f} ms one by one")
    ratios = [replaced / together for together, replaced in turns]
    print(f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})")
    together, replaced = map(list, zip(*turns, strict=True))
    return {"together": together, "replaced": replaced, "ratios": ratios}


def fast(model: VoxCPM2, rounds: int) -> dict[str, list[float]]:
    """Milliseconds per patch without and with `fast`, and the ratios."""

    def per_patch(is_fast: bool) -> float:
        begin = clock()
        model.speak(TEXT, seed=0, min_tokens=PATCHES, max_tokens=PATCHES, fast=is_fast)
        return 1000 * (clock() - begin) / PATCHES

    turns = [(per_patch(False), per_patch(True)) for _ in range(rounds + 1)][1:]
    without, with_it = zip(*turns, strict=True)
    ratios = [slow / quick for slow, quick in turns]
    print(f"a patch: {shown(without)}, with `fast` {shown(with_it)}")
    print(f"{statistics.median(ratios):.2f} times as fast ({min(ratios):.2f}-{max(ratios):.2f})")
    return {"without": list(without), "fast": list(with_it), "ratios": ratios}


def length(model: VoxCPM2, rounds: int) -> list[dict[str, float]]:
    """Milliseconds per patch by part of the sequence: the median, and the slowest in a hundred."""
    context = model.config.context_length
    patches = context - len(model.tokenize(TEXT)) - min(BLOCK, context // 16)
    short = request(model, 1)
    options = replace(short.options, min_tokens=patches)
    wanted = replace(short, options=options, limit=patches, text_tokens=patches)
    times, begin = [], clock()
    for chunks in stream_audio(model, [wanted]):
        mx.eval([chunk.audio for chunk in chunks])
        times.append(1000 * (clock() - begin))
        begin = clock()
    found = []
    for start in range(0, len(times), BLOCK):
        part = times[start : start + BLOCK]
        end, middle = start + len(part), statistics.median(part)
        slowest = statistics.quantiles(part, n=100)[-1]
        print(
            f"patches {start:5} to {end:5}: median {middle:.1f} ms, "
            f"of a hundred the slowest {slowest:.1f} ms"
        )
        found.append({"start": start, "end": end, "median": middle, "slowest": slowest})
    return found


MEASURES: dict[str, Callable[[VoxCPM2, int], dict | list]] = {
    "voices": voices,
    "batch": batch,
    "fast": fast,
    "length": length,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", metavar="PATH_OR_REPO")
    parser.add_argument("--dtype")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--what", nargs="+", choices=MEASURES, default=["voices", "batch"])
    parser.add_argument("--json", type=Path, metavar="PATH")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        source = args.model or write_checkpoint(Path(place) / "made", "small")
        try:
            model = load_model(source, args.dtype)
        except (ValueError, OSError) as error:
            print(f"latency.py: {error}", file=sys.stderr)
            sys.exit(2)
    FUSION.is_on = True  # the speed of long speech
    print(f"{mx.default_device()}, {model.dtype}")
    found = {what: MEASURES[what](model, args.rounds) for what in args.what}
    if args.json:
        args.json.write_text(json.dumps(found, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
