"""How fast does this package speak, beside mlx-audio and the official package?

    python benchmarks/speed.py (--model PATH | --size small) [--mlx_audio PYTHON]
        [--official PYTHON] [--patches 25 100] [--bandwidth GB/S] [--json PATH] [--plot PATH]

All engines get the same random or published weights, text, noise, solver steps, guidance and
number of patches, and take turns (A B C A B C ...) in processes of their own, so that what else
the machine does hits all of them; ratios are medians over rounds. How far an engine's waveform is
from the official one stands beside its speed: in float32 no speed is printed of one that differs
in its first patches (later ones may: a rounded code can fall on the other side). By part, times
come from passes in which evaluation is forced after each, which are slower than the whole.

PYTHON is an interpreter with `mlx-audio==0.6.2 torch`, or with `voxcpm==2.0.3`. PATH is a folder
in upstream's layout, or one that `convert` wrote, quantised or not, which mlx-audio reads too.
`small` is a tenth of the released model, made of random weights. RTF is the seconds that a second
of speech takes. The floor of a patch is measured too: how long its weights take to be read once,
and its matrix products to be computed alone. Where custom kernels are used, the same model also
takes turns without them.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from ctypes.util import find_library
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import speed_report

from mlx_voxcpm2.commands.speed import TEXT
from mlx_voxcpm2.layers.blas import mkl_libraries

HERE = Path(__file__).parent

# Every engine chooses its own kernels: what fits another machine's BLAS is not passed on.
TUNING = {"OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"}
UNTUNED = {name: value for name, value in os.environ.items() if name not in TUNING}


class WorkerError(Exception):
    """One line that names the engine and what ended it."""


class Worker:
    """An engine in a process of its own; `ask` sends it a request and waits for the answer."""

    def __init__(self, python: str, settings: dict, environment: dict, log: Path):
        self.name, self.log = settings["engine"], log
        command = [python, str(HERE / "speed_worker.py"), json.dumps(settings)]
        try:
            with log.open("w") as errors:
                self.process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    env=UNTUNED | environment,
                )
        except OSError as error:
            raise WorkerError(f"{self.name}: can't start {python} ({error.strerror})") from None

    def ask(self, do: str, **request: object) -> dict:
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        found = json.loads(line) if line else {"error": "died"}
        if "error" in found:
            status = self.process.wait()
            last = " | ".join(self.log.read_text(errors="replace").splitlines()[-3:])
            raise WorkerError(f"{self.name}: {found['error']} (status {status}); it said: {last}")
        return found

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def make_checkpoint(folder: Path, size: str) -> Path:
    from random_checkpoint import write_checkpoint  # which takes MLX into this process

    return write_checkpoint(folder, size)


def is_converted(folder: Path) -> bool:
    """Whether `convert` wrote the checkpoint: the AudioVAE is in the model's own files."""
    return not any((folder / f"audiovae.{kind}").exists() for kind in ("safetensors", "pth"))


def prepare(args: argparse.Namespace, place: Path) -> dict:
    """The workers' settings; the checkpoint is linked beside a config that asks for the dtype."""
    folder = place / "checkpoint"
    folder.mkdir()
    for file in (args.model or make_checkpoint(place / "made", args.size)).resolve().iterdir():
        if file.is_file():
            (folder / file.name).symlink_to(file)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").unlink()
    # The official package takes the best device that there is, as MLX does.
    asked = config | {"dtype": args.dtype, "device": "cuda"}
    (folder / "config.json").write_text(json.dumps(asked), encoding="utf-8")
    shape = max(2, *args.patches), config["patch_size"], config["feat_dim"]
    noise = np.random.RandomState(0).standard_normal(shape).astype(np.float32)
    np.save(place / "noise.npy", noise)
    vae = config["audio_vae_config"]
    return {
        "folder": str(folder),
        "converted": str(folder if is_converted(folder) else place / "converted"),
        "dtype": args.dtype,
        "noise": str(place / "noise.npy"),
        "text": args.text,
        "steps": args.steps,
        "cfg": args.cfg,
        "blas": args.blas,
        "patch_samples": config["patch_size"] * int(np.prod(vae["decoder_rates"])),
        "sample_rate": vae["out_sample_rate"],
    }


def blas_libraries(blas: str) -> list[str]:
    """What both MLX programs are started with; none but on Linux."""
    if sys.platform != "linux" or blas == "mlx":
        return []
    found = mkl_libraries() if blas == "mkl" else [find_library("openblas")]
    if not all(found) or not found:
        raise WorkerError(f"{blas} is not installed; install it, or choose another --blas")
    return found


@contextlib.contextmanager
def workers(args: argparse.Namespace, settings: dict) -> Iterator[dict[str, Worker]]:
    """The engines that were asked for, loaded one after another."""
    libraries = ("OPENBLAS", "OMP", "MKL")
    environment = {f"{library}_NUM_THREADS": str(args.threads) for library in libraries}
    if args.dtype == "float32":
        environment["MLX_ENABLE_TF32"] = "0"
    on_mlx = environment | {"LD_PRELOAD": " ".join(blas_libraries(args.blas))}
    with contextlib.ExitStack() as stack:

        def start(python: str, engine: str, environment: dict) -> Worker:
            log = Path(settings["noise"]).with_name(f"{engine}.log")
            worker = Worker(python, settings | {"engine": engine}, environment, log)
            stack.callback(worker.stop)
            worker.about = worker.ask("describe")  # once it is loaded
            return worker

        started = {"ours": start(sys.executable, "ours", on_mlx)}
        if args.mlx_audio:
            if settings["converted"] != settings["folder"]:
                start(args.mlx_audio, "convert", environment)
            started["mlx_audio"] = start(args.mlx_audio, "mlx_audio", on_mlx)
        if args.official:
            started["official"] = start(args.official, "official", environment)
        yield started


def measure(args: argparse.Namespace, engines: dict[str, Worker], settings: dict) -> dict:
    """All answers: of every engine about itself, and by engine in every round."""
    place = Path(settings["noise"]).parent
    turns_of = {name: (worker, {}) for name, worker in engines.items()}
    abouts = {name: worker.about for name, worker in engines.items()}
    if abouts["ours"]["custom_kernels"]:
        # One process for both: two would hold the weights twice.
        turns_of["ours"] = (engines["ours"], {"kernels": True})
        turns_of["plain"] = (engines["ours"], {"kernels": False})
        abouts["plain"] = {k: v for k, v in abouts["ours"].items() if k != "weights"}

    def rounds(do: str, patches: int) -> list[dict[str, dict]]:
        print(f"{do}, {patches} patches, {args.rounds} rounds and a warm-up", file=sys.stderr)
        turns = []
        for index in range(args.rounds + 1):
            # The warm-up's waveforms are compared.
            paths = {name: None if index else str(place / f"{name}.npy") for name in turns_of}
            turns.append(
                {
                    name: worker.ask(do, patches=patches, save=paths[name], **how)
                    for name, (worker, how) in turns_of.items()
                }
            )
        return turns[1:]

    found = {"engines": abouts, "load_average": os.getloadavg(), "speak": {}, "errors": {}}
    for patches in args.patches:
        found["speak"][patches] = rounds("speak", patches)
        spoken = {name: np.load(place / f"{name}.npy") for name in turns_of}
        for name, audio in spoken.items():
            if len(audio) < patches * settings["patch_samples"]:
                raise WorkerError(f"{name}: spoke less than asked; use a longer --text")
        found["errors"][patches] = speed_report.errors(spoken, settings["patch_samples"])
    found["floor"] = engines["ours"].ask("floor", patches=2)
    found["begin"] = rounds("begin", args.patches[0])
    found["parts"] = rounds("parts", args.patches[0])
    return found


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--model", type=Path, help="a checkpoint in upstream's layout, or converted"
    )
    source.add_argument("--size", choices=("released", "small", "tiny"), help="of one made here")
    parser.add_argument("--mlx_audio", metavar="PYTHON")
    parser.add_argument("--official", metavar="PYTHON")
    parser.add_argument("--patches", type=int, nargs="+", default=[25, 100])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--cfg", type=float, default=2.0)
    parser.add_argument("--text", default=TEXT)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument(
        "--blas",
        default="openblas",
        choices=("openblas", "mkl", "mlx"),
        help="what MLX multiplies with on Linux; mlx is its wheel's own (default %(default)s)",
    )
    parser.add_argument("--bandwidth", type=float, metavar="GB/S", help="of memory, not measured")
    parser.add_argument("--json", type=Path, metavar="PATH")
    parser.add_argument("--plot", type=Path, metavar="PATH", help="needs matplotlib")
    args = parser.parse_args()
    if args.model and not (args.model / "config.json").is_file():
        parser.error(f"--model: {args.model} has no config.json")
    if args.model and args.official and is_converted(args.model):
        parser.error(f"--model: {args.model} is converted, which --official can't read")
    if min(*args.patches, args.rounds, args.steps, args.threads) < 1:
        parser.error("--patches, --rounds, --steps and --threads must be at least 1")
    if args.plot and not find_spec("matplotlib"):
        parser.error("--plot needs matplotlib: pip install matplotlib")
    for path in (args.json, args.plot):
        if path and not path.parent.is_dir():
            parser.error(f"{path.parent} is not a folder")
    return args


def main() -> None:
    args = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with tempfile.TemporaryDirectory() as place:
            settings = prepare(args, Path(place))
            with workers(args, settings) as engines:
                found = measure(args, engines, settings)
    except WorkerError as error:
        print(f"speed.py: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    summary = speed_report.summarise(args, settings, found)
    speed_report.print_tables(summary)
    if args.json:
        args.json.write_text(json.dumps(summary, indent=2), encoding="utf-8")
    if args.plot:
        speed_report.plot(summary, args.plot)


if __name__ == "__main__":
    main()
