"""The command line: `python -m mlx_voxcpm2.train --train data.jsonl --output adapter`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from .command import Parser, flag, messages_on_success, run
from .generate import DEFAULT_MODEL

logger = logging.getLogger("mlx_voxcpm2")

# Keys of upstream's YAML that this trainer has no use for: it resamples, reads ahead and logs in
# its own way.
_IGNORED = {"sample_rate", "num_workers", "tensorboard"}
_RENAMED = {
    "pretrained_path": "model", "train_manifest": "train", "val_manifest": "validation",
    "save_path": "output", "num_iters": "max_steps",
}  # fmt: skip


def build_parser(prog: str | None = None) -> Parser:
    parser = Parser(
        prog=prog,
        description="Fine-tune VoxCPM2 on clips and their words; run again, it goes on where it "
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
    for name, type_, help_ in (
        ("max_steps", int, "updates of the weights"),
        ("batch_size", int, "examples side by side, over all processes"),
        ("grad_accum_steps", int, "batches to an update"),
        ("learning_rate", float, "at its peak"),
        ("seed", int, "of order and chance"),
    ):
        flag(how, name, type=type_, help=help_)
    flag(how, "gradient_checkpointing", action="store_true", default=None,
         help="less memory, a third slower")  # fmt: skip
    flag(how, "verbose", action="store_true", help="say what is loaded and done")
    return parser


def read_config(path: str) -> dict:
    """The YAML file as a dict, by this trainer's names."""
    import yaml

    try:
        data = yaml.safe_load(Path(os.path.expanduser(path)).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; check the path") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: not a YAML file ({error}); write `key: value` lines") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ValueError(f"{path}: not a list of settings; write `key: value` lines")
    settings = {}
    for name, value in data.items():
        name = _RENAMED.get(name, name)
        if name not in _IGNORED and value != "":
            settings.setdefault(name, value)
    if isinstance(lambdas := settings.get("lambdas"), dict):
        settings["lambdas"] = {str(k).removeprefix("loss/"): v for k, v in lambdas.items()}
    return settings


def settings_of(args: argparse.Namespace):
    """-> TrainingSettings and the output folder, from --config and the flags."""
    from dataclasses import fields

    from .adapter_files import LoRASettings
    from .schema import read_dataclass
    from .training.options import TrainingOptions
    from .training.run import TrainingSettings

    data = read_config(args.config) if args.config else {}
    given = {name: value for name, value in vars(args).items() if value is not None}
    data |= {name: given[name] for name in given if name not in (
        "config", "check", "lora", "full", "verbose")}  # fmt: skip
    for name in ("train", "output"):
        if not data.get(name) and not (name == "output" and args.check):
            raise ValueError(f"--{name} is missing; --help lists the flags")
    output, lora = data.pop("output", None), data.pop("lora", None)
    lora = None if args.full else lora or {}
    paths = {f.name: data.pop(f.name) for f in fields(TrainingSettings) if f.name in data}
    unknown: list[str] = []
    try:
        options = read_dataclass(TrainingOptions, data, unknown)
        lora = lora if lora is None else read_dataclass(LoRASettings, lora, unknown, "lora.")
    except ValueError as error:
        raise ValueError(f"{args.config}: {error}" if args.config else str(error)) from None
    if unknown:
        raise ValueError(f"{args.config}: {unknown[0]} is no setting of this trainer; leave it out")
    paths = {"model": DEFAULT_MODEL, **paths}
    return TrainingSettings(**paths, lora=lora, options=options), output


def check_manifests(settings) -> None:
    """Lists what is wrong, each with its line; raises ValueError if there are errors."""
    from .training.manifest import Limits, check_manifest

    limits, errors = Limits(max_positions=settings.options.longest), 0
    for path in filter(None, (settings.train, settings.validation)):
        for problem in check_manifest(path, limits):
            print(f"{path}: {problem.severity}: {problem}", file=sys.stderr)
            errors += problem.severity == "error"
    if errors:
        raise ValueError(f"{errors} errors in the manifests; mend or remove these lines")


class Progress:
    """A bar in steps, with both losses."""

    def __init__(self):
        self.bar = None

    def __call__(self, step, options) -> None:
        if self.bar is None:
            from tqdm import tqdm

            self.bar = tqdm(
                total=options.max_steps, initial=step.number - 1, unit="step", disable=None,
                file=sys.stderr, desc="training",
            )  # fmt: skip
        self.bar.set_postfix(diff=f"{step.diff:.3f}", stop=f"{step.stop:.4f}", refresh=False)
        self.bar.update()

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def train(args: argparse.Namespace) -> None:
    settings, output = settings_of(args)
    check_manifests(settings)
    if args.check:
        print("nothing is wrong with the manifests", file=sys.stderr)
        return
    from .training import run as training

    progress = Progress()
    try:
        with messages_on_success():
            folder = training.train(settings, output, progress)
    finally:
        progress.close()
    print(f"{folder}: trained for {settings.options.max_steps} steps", file=sys.stderr)


def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    return run(build_parser(prog or "python -m mlx_voxcpm2.train"), train, argv)


if __name__ == "__main__":
    sys.exit(main())
