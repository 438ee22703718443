"""The command line: `mlx-voxcpm2 doctor`, one screen about the installation and what to improve."""

from __future__ import annotations

import json
import logging
import os
import platform
import shutil
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__
from .machine import PACKAGE, library_versions, machine_facts, missing_by_extra
from .model_flags import DEFAULT_MODEL
from .shell import Parser, flag, run

if TYPE_CHECKING:
    from ..trials.trial import Verdict

_SELF_TEST_SECONDS = 3
_DOWNLOAD_BYTES = 5e9  # of the released model
_PURPOSES = {
    "media": "clips from phones, browsers and films; --speed",
    "app": "the web page",
    "benchmark": "the plot of `mlx-voxcpm2 benchmark`",
    "asr": "speech recognition, --verify",
    "completion": "completion of commands in a shell",
    "normalize": "--normalize",
    "play": "--play",
    "server": "the server",
    "mlx-audio": "the plug-in for mlx-audio",
    "train": "fine-tuning",
}


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    name: str
    value: str
    advice: str | None = None
    """Thing to do about it, if it is slow or missing."""
    is_fault: bool = False
    """Whether speech is impossible."""


def diagnose(model: str) -> Iterator[Finding]:
    """Findings, one after another; none raises an error, and none needs a network."""
    for name, check in (
        ("versions", _versions),
        ("device", _device),
        ("custom kernels", _kernels),
        ("extras", _extras),
        ("folders", _folders),
        ("model", lambda: _model(model)),
        ("self-test", _self_test),
    ):
        try:
            yield from check()
        except Exception as error:  # the others are of use in any case
            words = " ".join(str(error).split())
            advice = "report this line" if name == "self-test" else None
            yield Finding(name, f"failed: {type(error).__name__}: {words}", advice, True)


def _versions() -> Iterator[Finding]:
    yield Finding(PACKAGE, f"{__version__}, Python {platform.python_version()}")
    yield Finding("libraries", ", ".join(f"{k} {v}" for k, v in library_versions().items()))


def _device() -> Iterator[Finding]:
    from ..layers import device

    import mlx.core as mx  # isort: skip  after the choice of a BLAS

    facts = machine_facts()
    yield Finding("system", str(facts["system"]))
    yield Finding("processor", f"{facts['processor']}, {facts['cores']} cores")
    gigabytes = float(str(facts["memory_bytes"])) / 1e9
    advice = None
    if gigabytes < 8:
        advice = "little memory for the released model: take --quantize 4bit, or a converted one"
    yield Finding("memory", f"{gigabytes:.1f} GB", advice)
    yield Finding("MLX computes on", str(facts["device"]))
    hints = device.slowness_hints(mx.float32)
    yield Finding("BLAS", str(facts["blas"]), hints[0] if hints else None)
    if sys.platform == "linux" and facts["device"] == "CPU":
        compiler = shutil.which("g++")
        advice = "for faster long speech on a CPU: apt install g++" if compiler is None else None
        yield Finding("compiler", compiler or "no g++", advice)


def _kernels() -> Iterator[Finding]:
    """Findings of the trials on this machine, which loading a model makes."""
    from ..layers import device
    from ..trials.prove import SWITCH, are_switched_off
    from ..trials.verdicts import summary

    name = "custom kernels"
    if device.on_cpu():
        return (yield Finding(name, "none for a CPU"))
    if are_switched_off():
        return (yield Finding(name, f"switched off by {SWITCH}", f"unset {SWITCH} to use them"))
    found = summary()
    if not found:
        return (yield Finding(name, "not tried yet: loading a model of 16 bits does"))
    for kernel, verdicts in sorted(found.items()):
        yield Finding(f"kernel {kernel}", describe_verdicts(verdicts))


def describe_verdicts(verdicts: Sequence[Verdict]) -> str:
    """Numbers of shapes for which a kernel is used or not, its speed there, and the first fault."""
    used = [each.ratio for each in verdicts if each.variant is not None and each.ratio]
    text = f"used for {len(used)} of {len(verdicts)} shapes"
    if used:
        text += f", in {min(used):.2f} to {max(used):.2f} of the plain graph's time"
    slow = sum(each.variant is None and not each.fault for each in verdicts)
    faults = [each.fault for each in verdicts if each.fault]
    text += f"; {slow} not faster" * bool(slow)
    return text + (f"; {len(faults)} failed: {faults[0]}" if faults else "")


def _extras() -> Iterator[Finding]:
    missing = missing_by_extra()
    missing = {name: missing[name] for name in _PURPOSES if name in missing}
    installed = [name for name, packages in missing.items() if not packages]
    yield Finding("extras", ", ".join(installed) or "none")
    wanted = [name for name, packages in missing.items() if packages]
    if wanted:
        purposes = "; ".join(f"{name}: {_PURPOSES[name]}" for name in wanted)
        advice = f"if you need it, pip install '{PACKAGE}[{wanted[0]}]' and so on ({purposes})"
        yield Finding("not installed", ", ".join(wanted), advice)
    if "play" in installed:
        yield from _portaudio()


def _portaudio() -> Iterator[Finding]:
    try:
        import sounddevice  # noqa: F401
    except OSError:
        advice = "to play: brew install portaudio, or apt install libportaudio2"
        yield Finding("PortAudio", "missing", advice)


def _folders() -> Iterator[Finding]:
    from huggingface_hub.constants import HF_HUB_CACHE

    from ..voices.folder import voices_folder

    for name, locate, setting in (
        ("hub's cache", lambda: Path(HF_HUB_CACHE), "HF_HUB_CACHE"),
        ("voices", voices_folder, "MLX_VOXCPM2_VOICES"),
        ("temporary files", lambda: Path(tempfile.gettempdir()), "TMPDIR"),
    ):
        yield _folder(name, locate, setting)


def _folder(name: str, locate: Callable[[], Path], setting: str) -> Finding:
    """Whether a folder can be written, or made; nothing is written to find out."""
    advice = f"set {setting} to a folder that can be written"
    try:
        folder = locate()
    except (RuntimeError, OSError) as error:  # no home folder
        return Finding(name, f"unknown ({error})", advice)
    existing = next(each for each in (folder, *folder.parents) if each.exists())
    state = "" if folder.exists() else ", not made yet"
    if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)):
        return Finding(name, f"{folder}, can't be written", advice)
    free = shutil.disk_usage(existing).free
    return Finding(name, f"{folder}{state}, {free / 1e9:.0f} GB free")


def _model(model: str) -> Iterator[Finding]:
    from ..weights.hub import local_checkpoint

    folder = local_checkpoint(model)
    if folder is not None:
        yield Finding("model", f"{model}, in {folder}")
        return
    size = f" ({_DOWNLOAD_BYTES / 1e9:.0f} GB)" if model == DEFAULT_MODEL else ""
    advice = f"the first sentence downloads the model{size}; --model english needs no download"
    yield Finding("model", f"{model}, not here", advice)


def _self_test() -> Iterator[Finding]:
    """Three seconds of speech by the demo."""
    from ..load import load_model

    begin = time.perf_counter()
    model = load_model("demo")
    loaded = time.perf_counter() - begin
    patches = round(_SELF_TEST_SECONDS * model.sample_rate / model.patch_samples)
    options = {"min_tokens": patches, "max_tokens": patches}
    begin, first, samples = time.perf_counter(), None, 0
    for result in model.generate("one two three four", seed=0, stream=True, **options):
        samples += len(result.audio)
        first = first or time.perf_counter() - begin
    seconds, speech = time.perf_counter() - begin, samples / model.sample_rate
    factor = speech / seconds
    yield Finding(
        "self-test",
        f"demo loaded in {loaded:.1f} s; {speech:.1f} s of speech in {seconds:.1f} s: real-time "
        f"factor {factor:.2f}, first sound after {first or seconds:.2f} s",
        "speech is slower than real time; other programs may use the processor" * (factor < 1)
        or None,
    )


def _print(findings: list[Finding]) -> None:
    width = max(len(each.name) for each in findings) + 2
    for each in findings:
        margin = " " * width
        lines = textwrap.wrap(each.value, 80 - width, break_on_hyphens=False) or [""]
        print(each.name.ljust(width) + f"\n{margin}".join(lines))
    advice = [each.advice for each in findings if each.advice]
    if advice:
        print("\nWhat would help:")
    for each in advice:
        print(textwrap.fill(each, 80, initial_indent="- ", subsequent_indent="  "))


def doctor(model: str, as_json: bool) -> int:
    """Print the report. Returns 1 if speech is impossible, else 0."""
    logger = logging.getLogger("mlx_voxcpm2")
    level = logger.level
    logger.setLevel(logging.ERROR)  # the report has the hints
    try:
        findings = list(diagnose(model))
    finally:
        logger.setLevel(level)
    if as_json:
        print(json.dumps([asdict(each) for each in findings], indent=2, ensure_ascii=False))
    else:
        _print(findings)
    return int(any(each.is_fault for each in findings))


def build_parser(prog: str | None = None) -> Parser:
    parser = Parser(
        prog=prog or "mlx-voxcpm2 doctor",
        description="Report on the installation, test it with the demo, and say what to improve. "
        "Needs no network.",
    )
    model = f"model to look for (default {DEFAULT_MODEL})"
    flag(parser, "model", default=DEFAULT_MODEL, metavar="PATH_OR_REPO", help=model)
    flag(parser, "json", action="store_true", help="print the report as JSON")
    return parser


def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    return run(build_parser(prog), lambda args: doctor(args.model, args.json), argv)


if __name__ == "__main__":
    sys.exit(main())
