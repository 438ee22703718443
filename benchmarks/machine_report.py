"""Measures all that is to be known of a machine with a GPU, in one report to send back.

    python benchmarks/machine_report.py [--mlx_audio PYTHON] [--only STEP ...] [--size released]
        [--precisions bf16 8bit 4bit] [--rounds 5] [--output machine-report] [--work_dir PATH]

Writes machine-report.md and machine-report.json anew after every step, so that what ends the
program loses one step. A step that fails is one line in the report, and the others are measured all
the same. PYTHON is an interpreter with `mlx-audio==0.6.2`, to be compared with.

Needs no download: the checkpoints are made here, of random weights in the released size, in
--work_dir (default: the system's folder for temporary files), which takes 16 GB meanwhile. `small`
and `tiny` are for trying it out. Steps:

    machine   what it is, and what is installed: `mlx-voxcpm2 doctor`
    kernels   custom kernels: their trials, and from a process's start to its first sound with and
              without them, in turns
    tests     the tests whose result depends on the device, without TF32
    fidelity  waveforms against the official package's, without TF32 (parity.py)
    speed     of each precision: per patch beside mlx-audio, with and without custom kernels, and
              the bandwidth's share (speed.py)
    batch     of each precision: up to 16 texts at once (batch.py)
    joins     a step of 16 rows of which some join and leave (latency.py)
    voices    first sound in a voice whose reference is stored (latency.py)
    length    a patch along the whole context (latency.py)
    load      of each precision: memory and seconds of loading and speaking, beside plain reads of
              the same files (load_and_speak.py)

Close other programs, and connect a laptop to its power supply.
"""

import argparse
import shutil
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

from machine_goals import evaluate, title, to_json, to_markdown, unmeasured
from machine_steps import STEPS, Bench, StepError
from machine_tables import SHOWN

from mlx_voxcpm2.files import atomic_write

PRECISIONS = ("bf16", "8bit", "4bit")
DISK_BYTES = {"tiny": 10**8, "small": 10**9, "released": 16 * 10**9}


def run_step(bench: Bench, name: str, precision: str | None) -> dict:
    """Runs a step: its findings with tables and goals, or its error in one line."""
    begin = time.perf_counter()
    entry: dict = {"step": name, "precision": precision, "error": None, "markdown": ""}
    entry["goals"] = unmeasured(name, precision)
    try:
        entry["found"] = STEPS[name].measure(bench, precision)
        entry["markdown"] = SHOWN[name](entry["found"])
        entry["goals"] = evaluate(name, precision, entry["found"])
    except StepError as error:
        entry["error"] = str(error)
    except Exception as error:  # whatever it is, the other steps are of use
        entry["error"] = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return entry | {"seconds": time.perf_counter() - begin}


def write(report: dict, output: Path) -> None:
    """Writes both files, each as a whole."""
    for ending, text in ((".json", to_json(report)), (".md", to_markdown(report))):
        atomic_write(output.with_name(output.name + ending), text.encode("utf-8"))


def measure(args: argparse.Namespace, work_dir: Path) -> int:
    """Runs the steps. Returns the number of those that failed."""
    bench = Bench(work_dir, args.size, args.mlx_audio, args.rounds, args.precisions[0])
    settings = {name: value for name, value in vars(args).items() if name != "output"}
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    report: dict = {"started": started, "settings": settings, "steps": []}
    planned = [
        (name, precision)
        for name in STEPS
        if name in args.only
        for precision in (args.precisions if STEPS[name].is_by_precision else [None])
    ]
    for index, (name, precision) in enumerate(planned, start=1):
        print(f"{index} of {len(planned)}: {title(name, precision)} …", file=sys.stderr, flush=True)
        entry = run_step(bench, name, precision)
        report["steps"].append(entry)
        outcome = f"failed: {entry['error']}" if entry["error"] else "done"
        print(f"  {outcome}, {entry['seconds']:.0f} s", file=sys.stderr, flush=True)
        write(report, args.output)
    return sum(entry["error"] is not None for entry in report["steps"])


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog=__doc__.partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--size", choices=DISK_BYTES, default="released", help="of the checkpoints")
    parser.add_argument("--only", nargs="+", choices=STEPS, default=list(STEPS), metavar="STEP")
    parser.add_argument(
        "--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS), metavar="NAME"
    )
    parser.add_argument("--mlx_audio", metavar="PYTHON", help="to compare the speed with")
    parser.add_argument("--rounds", type=int, default=5, help="of what takes turns (default 5)")
    parser.add_argument("--output", type=Path, default=Path("machine-report"), metavar="PATH")
    parser.add_argument("--work_dir", type=Path, metavar="PATH", help="for the checkpoints")
    args = parser.parse_args(argv)
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    if args.mlx_audio and not shutil.which(args.mlx_audio):
        parser.error(f"--mlx_audio: {args.mlx_audio} is no program; give a Python interpreter")
    for flag, folder in (("--output", args.output.parent), ("--work_dir", args.work_dir)):
        if folder is not None and not folder.is_dir():
            parser.error(f"{flag}: {folder} is not a folder; create it first")
    free = shutil.disk_usage(args.work_dir or tempfile.gettempdir()).free
    if free < DISK_BYTES[args.size]:
        wanted = f"{DISK_BYTES[args.size] / 1e9:.1f} GB"
        parser.error(
            f"the checkpoints take {wanted}, {free / 1e9:.1f} GB are free; give --work_dir"
        )
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    with tempfile.TemporaryDirectory(dir=args.work_dir) as work_dir:
        failed = measure(args, Path(work_dir))
    written = f"{args.output}.md and {args.output}.json"
    print(f"written: {written}; {failed} of the steps failed", file=sys.stderr)
    return int(failed > 0)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
