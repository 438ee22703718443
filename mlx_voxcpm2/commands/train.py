"""The command line: `python -m mlx_voxcpm2.train --train data.jsonl --output adapter`."""

from __future__ import annotations

import argparse
import logging
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ..activity import announcing
from ..models.voxcpm2.lora import LoRASettings
from ..schema import read_dataclass
from ..training.config_file import read_config_file
from ..training.options import TrainingOptions, TrainingSettings
from ..training.peer_settings import own_settings, parsed, with_batch_tokens
from .environment import add_hub_flags
from .model_flags import DEFAULT_MODEL
from .peer_flags import add_peer_flags
from .shell import Parser, flag, run, stopped_by_signals

if TYPE_CHECKING:
    from ..training.data import Lines
    from ..training.manifest_line import Problem
    from ..training.trainer import Step

logger = logging.getLogger("mlx_voxcpm2")

_DATA_FLAGS = ("model", "revision", "train", "validation", "validation_split")
_NUMBER_FLAGS = {
    "max_steps": (int, "N", "number of updates of the weights"),
    "batch_size": (int, "N", "examples in a batch, over all processes"),
    "grad_accum_steps": (int, "N", "batches per update"),
    "learning_rate": (float, "RATE", "peak learning rate; with --full 1e-5"),
    "max_grad_norm": (float, "NORM", "largest norm of the gradient; 0: any"),
    "save_interval": (int, "N", "steps between checkpoints"),
    "sample_interval": (int, "N", "steps between spoken samples; 0: none"),
    "seed": (int, "N", "seed of order, noise and dropout"),
}

EXAMPLES = """
{prog} --train data.jsonl --output my_lora
{prog} --train data.jsonl --check
"""


def build_parser(prog: str | None = None, examples: str = EXAMPLES) -> Parser:
    parser = Parser(
        examples=examples,
        prog=prog,
        usage="%(prog)s --train FILE --output FOLDER [FLAG …]",
        description="Fine-tune VoxCPM2 or VibeVoice on clips and their texts. The same command "
        "resumes an interrupted run. Flags override the same keys of --config.",
    )
    data = parser.add_argument_group("model and data")
    base = f"the model to fine-tune (default {DEFAULT_MODEL})"
    flag(data, "model", metavar="PATH_OR_REPO", help=base)
    flag(data, "revision", help="branch, tag or commit of the hub repository")
    lines = 'JSON lines: {"audio": …, "text": …, "ref_audio": … (optional; VibeVoice: "voices")}'
    # Without a path it is mlx-lm's switch, beside --data.
    flag(data, "train", nargs="?", const=True, metavar="PATH", help=lines)
    flag(data, "validation", metavar="PATH", help="manifest for validation")
    held_out = "fraction of --train to hold out instead (default 0)"
    flag(data, "validation_split", type=float, metavar="FRACTION", help=held_out)
    flag(data, "output", metavar="PATH", help="folder of the run")
    flag(
        data,
        "check",
        action="store_true",
        help="only check the manifests, and count their lines; needs no model",
    )
    training = parser.add_argument_group("training")
    target = training.add_mutually_exclusive_group()
    target.add_argument("--lora", action="store_true", help="train a LoRA adapter (default)")
    target.add_argument("--full", action="store_true", help="train all weights but the codec's")
    yaml = "YAML file with any of the settings, also upstream's or mlx-lm's"
    flag(training, "config", metavar="PATH", help=yaml)
    rank = f"rank of the adapter (default {LoRASettings.r})"
    flag(training, "lora_rank", type=int, metavar="N", help=rank)
    for name, (type_, metavar, help_) in _NUMBER_FLAGS.items():
        default = f" (default {getattr(TrainingOptions, name):g})"
        flag(training, name, type=type_, metavar=metavar, help=help_ + default)
    precision = "bfloat16 or float32: type of the computation (default float32 on a CPU)"
    flag(training, "precision", metavar="TYPE", help=precision)
    slower = "less memory, but slower (default off)"
    flag(training, "gradient_checkpointing", action="store_true", default=None, help=slower)
    flag(training, "verbose", action="store_true", help="log progress")
    add_hub_flags(training)
    return add_peer_flags(parser, "train")


@dataclass(frozen=True)
class TrainCommand:
    """A parsed command line, with the settings of its --config."""

    settings: TrainingSettings
    output: str
    """Folder of the run; may be empty with `check`."""
    check: bool
    """Whether only to check the manifests."""

    @classmethod
    def parse(cls, args: argparse.Namespace) -> TrainCommand:
        """Reads --config and adds the flags. Raises ValueError or FileNotFoundError."""
        data = read_config_file(args.config) if args.config else {}
        flags = (*_DATA_FLAGS, "output", "gradient_checkpointing", "precision", *_NUMBER_FLAGS)
        given = {name: getattr(args, name) for name in flags}
        if given["train"] is True:
            del given["train"]
        theirs = {name: parsed(value) for name, value in args.peers.items()}
        own, notes = own_settings(theirs)
        for note in notes:
            logger.warning(note)
        data |= own
        data |= {name: value for name, value in given.items() if value is not None}
        data = with_batch_tokens(data)
        for name in ("train", "output"):
            if not data.get(name) and not (name == "output" and args.check):
                raise ValueError(f"--{name} is missing; --help lists the flags")
        if args.lora_rank is not None:
            data["lora"] = {**data.get("lora", {}), "r": args.lora_rank}
        full = (data.pop("full", False) and not args.lora) or args.full
        try:
            return cls(*_read_settings(data, full), args.check)
        except ValueError as error:
            raise ValueError(f"{args.config}: {error}" if args.config else str(error)) from None


def _read_settings(data: dict[str, Any], full: bool) -> tuple[TrainingSettings, str]:
    """Settings and output folder, from a dict of all of them. Raises ValueError."""
    from ..training.recipes import find_recipe

    output, lora = data.pop("output", ""), data.pop("lora", {})
    if not isinstance(output, str):
        raise ValueError(f"output must be str, not {output!r}")
    if full:
        data.setdefault("learning_rate", 1e-5)
    named: dict[str, Any] = {"model": DEFAULT_MODEL}
    named |= {name: data.pop(name) for name in _DATA_FLAGS if name in data}
    recipe = find_recipe(str(named["model"]), named.get("revision"))
    unknown: list[str] = []
    options = read_dataclass(TrainingOptions, data, unknown)
    adapter = None if full else read_dataclass(recipe.lora, lora, unknown, "lora.")
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: not known here; leave that out")
    recipe.check(options)
    return TrainingSettings(**named, lora=adapter, options=options), output


class Progress:
    """Progress bar with both losses; without a terminal, a line per `log_interval`."""

    def __init__(self, options: TrainingOptions):
        self.options, self.bar = options, None

    def __call__(self, step: Step, validation: dict[str, float] | None) -> None:
        if self.bar is None:
            from tqdm import tqdm

            total, done = self.options.max_steps, step.number - 1
            bar = {"total": total, "initial": done, "unit": "step", "desc": "training"}
            self.bar = tqdm(file=sys.stderr, disable=None, **bar)
        self.bar.set_postfix_str(_shown(step.losses), refresh=False)
        self.bar.update()
        if self.bar.disable and step.number % self.options.log_interval == 0:
            count = f"step {step.number} of {self.options.max_steps}"
            print(f"{count}: {_shown(step.losses)}", file=sys.stderr, flush=True)
        if validation is not None:
            line = f"step {step.number}: validation {_shown(validation)}"
            self.bar.write(line, file=sys.stderr)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def _shown(losses: dict[str, float]) -> str:
    """Losses in words, such as "diff 1.234, stop 0.0123"."""
    return ", ".join(
        f"{name} {value:.{3 if name == 'diff' else 4}f}" for name, value in losses.items()
    )


def report(path: str, problem: Problem) -> None:
    """Prints a problem of a manifest."""
    print(f"{path}: {problem.severity}: {problem}", file=sys.stderr)


def print_counts(lines: Lines) -> None:
    """Prints how much data a run has."""
    print(lines, file=sys.stderr, flush=True)


def check(settings: TrainingSettings) -> None:
    """Checks the manifests, and prints problems and counts. Raises ValueError for an error.

    Nothing is downloaded for it.
    """
    from ..training.data import read_lines
    from ..weights.hub import local_checkpoint

    source = local_checkpoint(settings.model, settings.revision)
    lines = read_lines(settings, source, report)
    print(f"no line of the manifests has errors: {lines}", file=sys.stderr)
    if source is None:
        print(
            f"not checked: whether lines are too long for {settings.model}, which is not here",
            file=sys.stderr,
        )


def train(prog: str, args: argparse.Namespace) -> None:
    """Runs the command, in each process that `mlx.launch` has started."""
    import mlx.core as mx

    from ..training.processes import all_or_none

    group = mx.distributed.init()
    with all_or_none(group):
        command = TrainCommand.parse(args)
        if command.check:
            return check(command.settings)
    from ..training.run import train as run_training

    is_first, settings = group.rank() == 0, command.settings
    progress = Progress(settings.options)
    callbacks = (
        {"progress": progress, "report": report, "started": print_counts} if is_first else {}
    )
    listening = nullcontext() if is_first else announcing(None)
    try:
        with stopped_by_signals(), listening:
            folder = run_training(settings, command.output, **callbacks)
    except (KeyboardInterrupt, SystemExit) as stop:
        progress.close()
        status = 130 if isinstance(stop, KeyboardInterrupt) else stop.code
        if is_first and status != 2:
            print(f"{prog}: stopped; {_how_to_resume(command.output)}", file=sys.stderr)
        raise SystemExit(status) from None
    finally:
        progress.close()
    if is_first:
        print(f"{folder}: trained for {settings.options.max_steps} steps", file=sys.stderr)


def _how_to_resume(output: str) -> str:
    from ..training.run_folder import latest_checkpoint

    last = latest_checkpoint(output)
    if last is None:
        return "no checkpoint yet, the same command starts again"
    return f"the same command resumes from {last}"


def main(argv: list[str] | None = None, prog: str | None = None, examples: str = EXAMPLES) -> int:
    parser = build_parser(prog or "python -m mlx_voxcpm2.train", examples)
    return run(parser, partial(train, parser.prog), argv)


if __name__ == "__main__":
    sys.exit(main())
