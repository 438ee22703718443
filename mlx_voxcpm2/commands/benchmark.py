"""The command line: `mlx-voxcpm2 benchmark`, which measures how fast this machine speaks."""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from .. import __version__
from ..files import atomic_write
from .machine import library_versions, machine_facts
from .model_flags import DEFAULT_MODEL
from .shell import Parser, flag, run
from .speed import speak

AS_IS = "as is"

logger = logging.getLogger("mlx_voxcpm2")


@dataclass(frozen=True)
class Measure:
    """Speed of one precision and number of texts at once: medians over the rounds."""

    precision: str
    texts: int
    real_time_factor: float
    """Seconds of speech per second of computing, of all texts together."""
    patch_ms: float
    """Milliseconds for one patch of each text."""
    first_sound_ms: float
    """Milliseconds from the call until all texts have their first sound."""
    peak_bytes: int
    weight_bytes: int
    load_seconds: float


@dataclass(frozen=True)
class Benchmark:
    """What to measure, and where to write it. Raises ValueError for what can't be done."""

    model: str
    revision: str | None
    dtype: str | None
    precisions: list[str]
    batch_sizes: list[int]
    patches: int
    rounds: int
    json: str
    plot: str | None

    def __post_init__(self):
        from ..audio.writing import check_target
        from ..weights.recipes import find_recipe

        for name in self.precisions:
            if name != AS_IS:
                find_recipe(name)
        if min(*self.batch_sizes, self.patches, self.rounds) < 1:
            raise ValueError("--batch_sizes, --patches and --rounds must be at least 1")
        for name in ("json", "plot"):
            if path := getattr(self, name):
                check_target(path, f"--{name}")

    def measures(self) -> Iterator[Measure]:
        """Measure each precision and batch size in turn; one model is in memory at a time."""
        from ..layers.compiled import FUSION

        FUSION.is_on = True  # the speed of long speech, for which a CPU's kernels are compiled
        for precision in self.precisions:
            try:
                yield from self._measure(precision)
            except ValueError as error:
                if precision == self.precisions[0]:
                    raise
                logger.warning("%s: not measured: %s", precision, error)

    def _measure(self, precision: str) -> Iterator[Measure]:
        from mlx.utils import tree_flatten

        from ..load import load_model

        import mlx.core as mx  # isort: skip  after the choice of a BLAS

        recipe = None if precision == AS_IS else precision
        begin = time.perf_counter()
        model = load_model(self.model, self.dtype, self.revision, recipe)
        loaded = time.perf_counter() - begin
        weights = sum(value.nbytes for _, value in tree_flatten(model.parameters()))
        second = model.patch_samples / model.sample_rate
        for texts in self.batch_sizes:
            speak(model, texts, 2)  # compiles, reads weights
            passes = [speak(model, texts, self.patches) for _ in range(self.rounds)]
            seconds = statistics.median(each.seconds for each in passes)
            yield Measure(
                precision,
                texts,
                texts * self.patches * second / seconds,
                1000 * seconds / self.patches,
                1000 * statistics.median(each.first for each in passes),
                max(each.peak_bytes for each in passes),
                weights,
                loaded,
            )
        del model
        mx.clear_cache()


def markdown(measures: list[Measure], title: str) -> str:
    """Table of the measures, ready to paste."""
    head = ("precision", "texts at once", "× real time", "ms per patch", "first sound")
    head = (*head, "weights", "peak memory")
    rows = [
        (
            each.precision,
            str(each.texts),
            f"{each.real_time_factor:.2f}",
            f"{each.patch_ms:.0f}",
            f"{each.first_sound_ms:.0f} ms",
            f"{each.weight_bytes / 1e9:.2f} GB",
            f"{each.peak_bytes / 1e9:.2f} GB",
        )
        for each in measures
    ]
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join([title, "", *(f"| {' | '.join(cells)} |" for cells in lines)])


def write_plot(measures: list[Measure], title: str, file: str) -> None:
    """Bars of the speed and of the peak memory, by precision and texts at once."""
    from matplotlib.figure import Figure

    figure = Figure((11, 4), layout="constrained")
    speed, memory = figure.subplots(1, 2)
    texts = list(dict.fromkeys(each.texts for each in measures))
    precisions = list(dict.fromkeys(each.precision for each in measures))
    for index, count in enumerate(texts):
        found = [each for each in measures if each.texts == count]
        places = [precisions.index(each.precision) + index / (len(texts) + 1) for each in found]
        for axes, values in (
            (speed, [each.real_time_factor for each in found]),
            (memory, [each.peak_bytes / 1e9 for each in found]),
        ):
            label = f"{count} text{'s' * (count > 1)} at once"
            bars = axes.bar(places, values, 0.9 / (len(texts) + 1), label=label)
            axes.bar_label(bars, fmt="%.2g", fontsize=8)
    middle = (len(texts) - 1) / (len(texts) + 1) / 2
    for axes in (speed, memory):
        axes.set_xticks([place + middle for place in range(len(precisions))], precisions)
        axes.spines[["top", "right"]].set_visible(False)
    speed.axhline(1, color="gray", linestyle="--", linewidth=1)
    speed.set(title="seconds of speech per second (dashed: real time)")
    memory.set(title="peak memory, GB")
    speed.legend(frameon=False)
    figure.suptitle(title, fontsize=9)
    figure.savefig(file, dpi=100)


def _title(model: str, facts: dict) -> str:
    """The model and the machine in one line."""
    device = facts["device"]
    if device == "CPU":
        device += f" ({facts['blas']} for matrices)"
    gigabytes = facts["memory_bytes"] / 1e9
    return f"{model} on {facts['processor']}, {gigabytes:.0f} GB, {device}"


def read_arguments(args: argparse.Namespace) -> Benchmark:
    """What to measure. Raises ValueError."""
    plot = args.plot or "benchmark.png"
    if not find_spec("matplotlib"):
        if args.plot:
            raise ValueError("--plot needs matplotlib; install 'mlx-voxcpm2[benchmark]'")
        plot = None
    settings = {name: value for name, value in vars(args).items() if name != "verbose"}
    return Benchmark(**settings | {"plot": plot})


def benchmark(job: Benchmark) -> None:
    """Measure, print a table, write JSON and a plot. Raises ValueError or OSError."""
    facts, measures = machine_facts(), []
    for each in job.measures():
        measures.append(each)
        print(
            f"{each.precision}, {each.texts} at once: {each.real_time_factor:.2f} times real time",
            file=sys.stderr,
            flush=True,
        )
    title = _title(job.model, facts)
    print(markdown(measures, title))
    report = {
        "version": __version__,
        "libraries": library_versions(),
        "machine": facts,
        "settings": asdict(job),
        "measures": [asdict(each) for each in measures],
    }
    text = json.dumps(report, indent=2, ensure_ascii=False)
    atomic_write(Path(job.json), text.encode("utf-8"))
    if job.plot is None:
        print("no plot: install 'mlx-voxcpm2[benchmark]'", file=sys.stderr)
    else:
        write_plot(measures, title, job.plot)
    written = ", ".join(filter(None, (job.json, job.plot)))
    print(f"written: {written}", file=sys.stderr)


def build_parser(prog: str | None = None) -> Parser:
    parser = Parser(
        prog=prog or "mlx-voxcpm2 benchmark",
        description="Measure speed, first sound and memory by precision and by texts at once.",
    )
    model = f"model to measure (default {DEFAULT_MODEL})"
    flag(parser, "model", default=DEFAULT_MODEL, metavar="PATH_OR_REPO", help=model)
    flag(parser, "revision", help="branch, tag or commit of the hub repository")
    flag(parser, "dtype", help="bfloat16, float16 or float32, of what is not quantised")
    precisions = f"recipes, or '{AS_IS}' (default '{AS_IS}' 8bit 4bit)"
    chosen = [AS_IS, "8bit", "4bit"]
    flag(parser, "precisions", nargs="+", default=chosen, metavar="RECIPE", help=precisions)
    sizes = "numbers of texts at once (default 1 4)"
    flag(parser, "batch_sizes", nargs="+", type=int, default=[1, 4], metavar="N", help=sizes)
    patches = "patches of 160 ms per text (default %(default)s)"
    flag(parser, "patches", type=int, default=40, metavar="N", help=patches)
    rounds = "passes, of which the median counts (default %(default)s)"
    flag(parser, "rounds", type=int, default=3, metavar="N", help=rounds)
    report = "file of all numbers (default %(default)s)"
    flag(parser, "json", default="benchmark.json", metavar="PATH", help=report)
    plot = "picture, .png or .svg (default benchmark.png)"
    flag(parser, "plot", metavar="PATH", help=plot)
    return parser


def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    return run(build_parser(prog), lambda args: benchmark(read_arguments(args)), argv)


if __name__ == "__main__":
    sys.exit(main())
