"""The command line: `python -m mlx_voxcpm2.train --train data.jsonl --output adapter`."""

from __future__ import annotations

import argparse
import os
import re
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .model_flags import DEFAULT_MODEL
from .shell import Parser, flag, run, stopped_by_signals

if TYPE_CHECKING:
    from ..training.manifest import Problem
    from ..training.options import TrainingOptions, TrainingSettings
    from ..training.trainer import Step

# Keys of upstream's YAML that this trainer has no use for: it resamples, reads ahead and logs in
# its own way, and writes the same files for everyone.
_UNUSED = {
    "sample_rate", "out_sample_rate", "num_workers", "tensorboard", "config_path", "hf_model_id",
    "distribute",
}  # fmt: skip
_RENAMED = {
    "pretrained_path": "model", "train_manifest": "train", "val_manifest": "validation",
    "save_path": "output", "num_iters": "max_steps",
}  # fmt: skip


def build_parser(prog: str | None = None) -> Parser:
    parser = Parser(
        prog=prog,
        description="Fine-tune VoxCPM2 on clips and their words. Run again, it goes on where it "
        "was stopped. Flags go before the same keys of --config.",
    )
    data = parser.add_argument_group("what to learn")
    flag(data, "model", "pretrained_path", metavar="PATH_OR_REPO",
         help=f"the model to start from (default {DEFAULT_MODEL})")  # fmt: skip
    flag(data, "revision", help="of the hub repository")
    flag(data, "train", "train_manifest", metavar="PATH",
         help='JSON lines: {"audio": …, "text": …, "ref_audio": … (optional)}')  # fmt: skip
    flag(data, "validation", "val_manifest", metavar="PATH", help="a manifest to validate with")
    flag(data, "validation_split", type=float, metavar="FRACTION",
         help="hold out that part of --train instead")  # fmt: skip
    flag(data, "output", "save_path", metavar="PATH", help="the run's folder")
    flag(data, "check", action="store_true", help="only list what is wrong with the manifests")
    how = parser.add_argument_group("how")
    kind = how.add_mutually_exclusive_group()
    kind.add_argument("--lora", action="store_true", help="learn an adapter (the default)")
    kind.add_argument("--full", action="store_true", help="learn all weights but the AudioVAE's")
    flag(how, "config", metavar="PATH", help="a YAML file with any of the settings, as upstream's")
    for name, kind, metavar, help_ in (
        ("max_steps", int, "N", "updates of the weights"),
        ("batch_size", int, "N", "examples side by side, over all processes"),
        ("grad_accum_steps", int, "N", "batches to an update"),
        ("learning_rate", float, "RATE", "at its peak"),
        ("save_interval", int, "N", "steps from a checkpoint to the next"),
        ("sample_interval", int, "N", "speak every N steps"),
        ("seed", int, "N", "of order and chance"),
    ):
        flag(how, name, type=kind, metavar=metavar, help=help_)
    flag(how, "gradient_checkpointing", action="store_true", default=None,
         help="less memory, but slower")  # fmt: skip
    flag(how, "verbose", action="store_true", help="say what is loaded and done")
    return parser


def read_config(path: str) -> dict:
    """The YAML file as a dict, by this trainer's names. Raises ValueError or FileNotFoundError."""
    try:
        import yaml
    except ImportError:
        raise ValueError(
            "--config needs PyYAML, which is not installed; install 'mlx-voxcpm2[train]'"
        ) from None
    try:
        data = yaml.safe_load(Path(os.path.expanduser(path)).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; check the path") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: not a YAML file ({error}); write `key: value` lines") from None
    data = {} if data is None else data
    if not isinstance(data, dict):
        raise ValueError(f"{path}: not a list of settings; write `key: value` lines")
    steps = {data.get(name) for name in ("num_iters", "max_steps")} - {None, 0}
    if len(steps) > 1:
        raise ValueError(f"{path}: num_iters and max_steps differ; leave one out")
    settings = {}
    for name, value in data.items():
        if name in _UNUSED or value in ("", None) or (name == "max_steps" and not value):
            continue
        settings[_RENAMED.get(name, name)] = _as_number(value)
    if isinstance(lambdas := settings.get("lambdas"), dict):
        settings["lambdas"] = {str(k).removeprefix("loss/"): v for k, v in lambdas.items()}
    if "pretrained_path" in data and "lora" not in settings:
        settings["full"] = True  # a file of upstream's, which learns all weights then
    return settings


def _as_number(value: object) -> object:
    """1e-4 is a number to everyone but YAML, which wants 1.0e-4."""
    if isinstance(value, dict):
        return {name: _as_number(item) for name, item in value.items()}
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value):
        return float(value)
    return value


def settings_of(args: argparse.Namespace) -> tuple[TrainingSettings, str | None]:
    """What to do and the output folder, from --config and the flags. Raises ValueError."""
    from ..schema import read_dataclass
    from ..training.options import TrainingOptions, TrainingSettings
    from ..weights.adapter_files import LoRASettings

    data = read_config(args.config) if args.config else {}
    of_command = ("config", "check", "lora", "full", "verbose")
    data |= {
        name: value
        for name, value in vars(args).items()
        if value is not None and name not in of_command
    }
    for name in ("train", "output"):
        if not data.get(name) and not (name == "output" and args.check):
            raise ValueError(f"--{name} is missing; --help lists the flags")
    if not isinstance(data.get("output", ""), str):
        raise ValueError(f"{args.config}: output must be str, not {data['output']!r}")
    output, lora = data.pop("output", None), data.pop("lora", {})
    full = (data.pop("full", False) and not args.lora) or args.full
    if full:
        data.setdefault("learning_rate", 1e-5)
    names = ("model", "revision", "train", "validation", "validation_split")
    named = {name: data.pop(name) for name in names if name in data}
    unknown: list[str] = []
    try:
        options = read_dataclass(TrainingOptions, data, unknown)
        lora = None if full else read_dataclass(LoRASettings, lora, unknown, "lora.")
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: not known here; leave that out")
        named = {"model": DEFAULT_MODEL} | named | {"lora": lora, "options": options}
        return TrainingSettings(**named), output
    except ValueError as error:
        raise ValueError(f"{args.config}: {error}" if args.config else str(error)) from None


class Progress:
    """A bar in steps, with both losses; where there is no terminal, a line now and then."""

    def __init__(self, options: TrainingOptions):
        self.options, self.bar = options, None

    def __call__(self, step: Step, validation: tuple[float, float] | None) -> None:
        if self.bar is None:
            from tqdm import tqdm

            self.bar = tqdm(
                total=self.options.max_steps, initial=step.number - 1, unit="step", disable=None,
                file=sys.stderr, desc="training",
            )  # fmt: skip
        self.bar.set_postfix(diff=f"{step.diff:.3f}", stop=f"{step.stop:.4f}", refresh=False)
        self.bar.update()
        if self.bar.disable and step.number % self.options.log_interval == 0:
            print(
                f"step {step.number} of {self.options.max_steps}: diff {step.diff:.3f}, "
                f"stop {step.stop:.4f}",
                file=sys.stderr, flush=True,
            )  # fmt: skip
        if validation is not None:
            line = "step {}: validation diff {:.3f}, stop {:.4f}".format(step.number, *validation)
            self.bar.write(line, file=sys.stderr)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def report(path: str, problem: Problem) -> None:
    print(f"{path}: {problem.severity}: {problem}", file=sys.stderr)


def check(settings: TrainingSettings) -> None:
    from ..training.run import read_lines
    from ..weights.hub import find_checkpoint

    read_lines(settings, find_checkpoint(settings.model, settings.revision), report)
    print("no line of the manifests has errors", file=sys.stderr)


def train(prog: str, args: argparse.Namespace) -> None:
    import mlx.core as mx

    from ..training.processes import all_or_none

    group = mx.distributed.init()
    leads = group.rank() == 0
    with all_or_none(group):
        settings, output = settings_of(args)
        if args.check:
            return check(settings)
    from ..training.run import train as run_training

    progress = Progress(settings.options)
    try:
        with stopped_by_signals():
            folder = run_training(
                settings, output, *((progress, report) if leads else ())
            )  # fmt: skip
    except (KeyboardInterrupt, SystemExit) as stop:
        progress.close()
        status = 130 if isinstance(stop, KeyboardInterrupt) else stop.code
        if leads and status != 2:
            print(f"{prog}: stopped; {_what_is_left(output)}", file=sys.stderr)
        raise SystemExit(status) from None
    finally:
        progress.close()
    if leads:
        print(f"{folder}: trained for {settings.options.max_steps} steps", file=sys.stderr)


def _what_is_left(output: str) -> str:
    from ..training.run_folder import latest_checkpoint

    last = latest_checkpoint(output)
    if last is None:
        return "no checkpoint yet, the same command begins anew"
    return f"the same command goes on behind {last}"


def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    parser = build_parser(prog or "python -m mlx_voxcpm2.train")
    return run(parser, partial(train, parser.prog), argv)


if __name__ == "__main__":
    sys.exit(main())
