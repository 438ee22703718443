"""Steps of `machine_report.py`: each starts other programs of this folder and reads their JSON."""

import json
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
TESTS = HERE.parent / "tests"
LONGEST = 3600
"""Seconds after which a program is taken for one that hangs."""
EXACT = {"MLX_ENABLE_TF32": "0"}

# What computes, and so depends on the device; the rest of the suite is the same everywhere.
TEST_FILES = (
    "kernels custom_kernels kernel_trials conv transformer network flow modes generation batch "
    "generate_batch live_batch prefill graph_counts quantization adapters vibevoice "
    "vibevoice_generation voxtral training_losses"
).split()


class StepError(Exception):
    """One line that says what failed."""


@dataclass
class Bench:
    """Folder, sizes and programs with which the steps measure."""

    work_dir: Path
    size: str
    mlx_audio: str | None
    rounds: int
    usual: str
    """Precision of the steps that measure one only."""
    run: Callable[..., subprocess.CompletedProcess] = subprocess.run
    failures: dict[str, str] = field(default_factory=dict)
    """Errors of checkpoints that can't be made, so that no other step tries it again."""

    def start(
        self,
        command: list[object],
        environment: dict[str, str] | None = None,
        accepted: tuple[int, ...] = (0,),
    ) -> str:
        """The standard output of a program that ends with an accepted status. Raises StepError."""
        words = [str(word) for word in command]
        name = next((Path(word).name for word in words[1:] if not word.startswith("-")), words[0])
        try:
            ended = self.run(
                words,
                env=os.environ | (environment or {}),
                capture_output=True,
                text=True,
                timeout=LONGEST,
            )
        except subprocess.TimeoutExpired:
            raise StepError(f"{name}: no end after {LONGEST} s") from None
        except OSError as error:
            raise StepError(f"{name}: {error.strerror}") from None
        if ended.returncode not in accepted:
            lines = (ended.stderr or ended.stdout).strip().splitlines()
            last = " ".join(lines[-1].split()) if lines else "it said nothing"
            raise StepError(f"{name}: status {ended.returncode}: {last}")
        return ended.stdout

    def script(self, name: str, *arguments: object, **environment: str):
        """The JSON that a program of this folder writes."""
        target = self.work_dir / "found.json"
        target.unlink(missing_ok=True)
        command = [sys.executable, HERE / f"{name}.py", *arguments, "--json", target]
        self.start(command, environment)
        return json.loads(target.read_text(encoding="utf-8"))

    def checkpoint(self, precision: str) -> Path:
        """A converted checkpoint of random weights, made at its first use; mlx-audio reads it."""
        folder = self.work_dir / precision
        if precision in self.failures:
            raise StepError(self.failures[precision])
        if not folder.exists():
            try:
                self._make(folder, precision)
            except StepError as error:
                self.failures[precision] = f"no checkpoint: {error}"
                raise StepError(self.failures[precision]) from None
        return folder

    def _make(self, folder: Path, precision: str) -> None:
        source = self.work_dir / "source"
        if not source.exists():
            maker = HERE / "random_checkpoint.py"
            self.start([sys.executable, maker, source, "--size", self.size])
        how = ["--recipe", precision] if precision != "bf16" else ["--dtype", "bfloat16"]
        convert = [sys.executable, "-m", "mlx_voxcpm2.convert"]
        self.start([*convert, "--hf_path", source, "--mlx_path", folder, *how])


def machine(bench: Bench, _: None) -> dict:
    """The doctor's findings, and what MLX knows of the device."""
    asked = "import json, mlx.core as mx; print(json.dumps([mx.__version__, mx.device_info()]))"
    version, info = json.loads(bench.start([sys.executable, "-c", asked]))
    return {"mlx": version, "device": info, "doctor": doctor(bench)}


def doctor(bench: Bench) -> dict[str, str]:
    """The doctor's findings by name."""
    command = [sys.executable, "-m", "mlx_voxcpm2.cli", "doctor", "--json"]
    text = bench.start(command, accepted=(0, 1))  # 1: speech is impossible, and why
    return {finding["name"]: finding["value"] for finding in json.loads(text)}


def kernels(bench: Bench, _: None) -> dict:
    """Verdicts of the trials, and seconds from a process's start to its first sound, in turns."""
    from mlx_voxcpm2.trials.prove import SWITCH
    from mlx_voxcpm2.trials.verdicts import verdict_file

    file = verdict_file()
    found: dict = {"known_before": file.exists(), "first": speak_once(bench)}
    turns: dict[str, list[dict]] = {"without": [], "with": []}
    for _ in range(bench.rounds):
        turns["without"].append(speak_once(bench, **{SWITCH: "0"}))
        turns["with"].append(speak_once(bench))
    verdicts = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
    lines = {name: value for name, value in doctor(bench).items() if "kernel" in name}
    return found | {"turns": turns, "doctor": lines, "verdicts": verdicts}


def speak_once(bench: Bench, **environment: str) -> dict[str, float]:
    """Seconds of a new process until its model is loaded, and until its first sound."""
    folder = bench.checkpoint(bench.usual)
    begin = time.time()
    found = bench.script("load_and_speak", folder, "--patches", 2, "--short", **environment)
    return {"load": found["load_seconds"], "first_sound": found["first_sound_at"] - begin}


def tests(bench: Bench, _: None) -> dict:
    """Numbers of tests by outcome, and the failed ones with the first line of their error."""
    target = bench.work_dir / "tests.xml"
    files = [TESTS / f"test_{name}.py" for name in TEST_FILES]
    command = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", *files]
    bench.start([*command, f"--junitxml={target}"], EXACT, accepted=(0, 1))  # 1: tests failed
    return read_junit(target)


def read_junit(file: Path) -> dict:
    """Reads the file of pytest's outcomes that `tests` returns."""
    suite = next(ElementTree.parse(file).getroot().iter("testsuite"))
    failed = {}
    for case in suite.iter("testcase"):
        for outcome in (*case.findall("failure"), *case.findall("error")):
            name = f"{case.get('classname')}::{case.get('name')}"
            failed[name] = (outcome.get("message") or "").strip().partition("\n")[0]
    counts = {name: int(suite.get(name) or 0) for name in ("tests", "skipped")}
    return counts | {"failed": failed}


def fidelity(bench: Bench, _: None) -> dict:
    return bench.script("parity", **EXACT)


def speed(bench: Bench, precision: str) -> dict:
    beside = ["--mlx_audio", bench.mlx_audio] if bench.mlx_audio else []
    arguments = ["--dtype", "bfloat16", "--patches", 25, 100, "--rounds", bench.rounds, *beside]
    return bench.script("speed", "--model", bench.checkpoint(precision), *arguments)


def batch(bench: Bench, precision: str) -> list:
    return bench.script("batch", bench.checkpoint(precision), "--rounds", bench.rounds)


def latency(what: str) -> Callable:
    """A step that measures one of the subjects of latency.py."""

    def measure(bench: Bench, _: None):
        folder = bench.checkpoint(bench.usual)
        return bench.script("latency", folder, "--what", what, "--rounds", bench.rounds)[what]

    return measure


def load(bench: Bench, precision: str) -> dict:
    """Loading with the files out of the system's cache, if that is possible, and in it; in between
    and afterwards plain reads of the same files."""
    folder = bench.checkpoint(precision)
    files = sorted(folder.glob("*.safetensors"))
    speak = [folder, "--patches", 8, "--short"]
    is_cold = evict(files)
    found: dict = {"is_cold": is_cold, "file_bytes": sum(file.stat().st_size for file in files)}
    found["first"] = bench.script("load_and_speak", *speak)
    found["read_again_seconds"] = read_seconds(files)
    found["again"] = bench.script("load_and_speak", *speak)
    if evict(files):
        found["read_first_seconds"] = read_seconds(files)
    return found


def evict(files: list[Path]) -> bool:
    """Drops files from the system's cache; False where a user can't."""
    if not hasattr(os, "posix_fadvise"):
        return False
    for file in files:
        with file.open("rb") as opened:
            os.fsync(opened.fileno())  # pages that are not on the disk yet would stay
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True


def read_seconds(files: list[Path]) -> float:
    """Seconds that reading the files into new memory takes, as loading has to."""
    begin = time.perf_counter()
    contents = [np.fromfile(file, np.uint8) for file in files]
    seconds = time.perf_counter() - begin
    del contents
    return seconds


@dataclass(frozen=True)
class Step:
    measure: Callable
    """Function from a bench and a precision (None if it has none) to the findings, for JSON."""
    is_by_precision: bool = False


STEPS = {
    "machine": Step(machine),
    "kernels": Step(kernels),
    "tests": Step(tests),
    "fidelity": Step(fidelity),
    "speed": Step(speed, is_by_precision=True),
    "batch": Step(batch, is_by_precision=True),
    "joins": Step(latency("batch")),
    "voices": Step(latency("voices")),
    "length": Step(latency("length")),
    "load": Step(load, is_by_precision=True),
}
