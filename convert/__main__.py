"""The command line: `python -m mlx_voxcpm2.convert --hf_path openbmb/VoxCPM2 --mlx_path …`."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from mlx_voxcpm2.commands.environment import add_hub_flags
from mlx_voxcpm2.commands.peer_flags import add_peer_flags
from mlx_voxcpm2.commands.setting_flags import add_setting_flags, setting_values
from mlx_voxcpm2.commands.shell import Parser, flag, messages_on_success, run, stopped_by_signals
from mlx_voxcpm2.weights.adapter_files import split_strength

from .conversion import Conversion

if TYPE_CHECKING:
    from tqdm import tqdm

EXAMPLES = """
{prog} --hf_path openbmb/VoxCPM2 --recipe 8bit
{prog} --hf_path ./VoxCPM2-4bit --mlx_path full --dequantize
"""
_UPLOAD_FLAGS = {"private", "measured"}
_ANY_FLAGS = {"mlx_path", "upload_repo", "peers", "notes", "cache_dir", "local_files_only"}


def build_parser(prog: str) -> Parser:
    parser = Parser(
        examples=EXAMPLES,
        prog=prog,
        usage="%(prog)s --hf_path PATH_OR_REPO [FLAG …]",
        description="Write a VoxCPM2 checkpoint for MLX. Flags may be spelled with - for _.",
    )
    files = parser.add_argument_group("files")
    flag(files, "hf_path", metavar="PATH_OR_REPO", help="the checkpoint to convert")
    add_setting_flags(files, Conversion, ["mlx_path", "revision", "overwrite", "layout", "adapter"])
    add_hub_flags(files)
    numbers = parser.add_argument_group("precision")
    add_setting_flags(numbers, Conversion, ["dtype", "recipe"])
    quantize = "quantise to 4 bits, or as the following say"
    numbers.add_argument("--quantize", action="store_true", help=quantize)
    add_setting_flags(numbers, Conversion, ["q_bits", "q_group_size", "q_mode", "dequantize"])
    hub = parser.add_argument_group("upload", "Without --hf_path, of the checkpoint in --mlx_path.")
    add_setting_flags(hub, Conversion, ["upload_repo", "private", "measured"])
    return add_peer_flags(parser, "convert")


@dataclass(frozen=True)
class Upload:
    """Arguments of `publish`, for a checkpoint that is converted already."""

    folder: str
    repo_id: str
    private: bool
    measured: str | None


def parse(parser: Parser, args: argparse.Namespace) -> Conversion | Upload:
    """The command line as a dataclass. Raises ValueError for flags that contradict each other."""
    check(parser, args)
    if args.hf_path is None:
        return Upload(args.mlx_path, args.upload_repo, args.private, args.measured)
    values = setting_values(Conversion, vars(args))
    adapter, strength = (None, None) if args.adapter is None else split_strength(args.adapter)
    values |= {"adapter": adapter, "adapter_strength": strength, "quantize": args.quantize}
    return Conversion(args.hf_path, **values)


def check(parser: Parser, args: argparse.Namespace) -> None:
    """Raise ValueError for flags that are empty or have no effect."""
    given = [name for name, value in vars(args).items() if value != parser.get_default(name)]
    for name in given:
        if getattr(args, name) == "":  # as a path it would be the working directory
            raise ValueError(f"--{name} is empty; give it a value, or leave it out")
    if args.hf_path is not None:
        return
    if args.upload_repo is None:
        idle = set(given) & _UPLOAD_FLAGS
        if idle:
            raise ValueError(f"--{min(idle)} does nothing without --upload_repo")
        raise ValueError("--hf_path is missing: what shall be converted?")
    if idle := set(given) - _UPLOAD_FLAGS - _ANY_FLAGS:
        raise ValueError(f"--{min(idle)} does nothing without --hf_path")


class Progress:
    """Progress bar per stage, on a terminal only."""

    def __init__(self):
        self._stage = ""
        self._bar: tqdm | None = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        from tqdm import tqdm

        if stage != self._stage:
            self.close()
            bar = {"desc": stage, "total": total, "unit": "B", "unit_scale": True, "leave": False}
            self._stage, self._bar = stage, tqdm(file=sys.stderr, disable=None, **bar)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def convert_and_upload(parser: Parser, args: argparse.Namespace) -> None:
    """Run the command."""
    command = parse(parser, args)
    if isinstance(command, Upload):
        from .publish import publish

        address = publish(
            command.folder, command.repo_id, command.private, measured=command.measured
        )
        print(address, file=sys.stderr)
        return
    convert(command)
    if command.upload_repo is not None:
        print(command.upload(), file=sys.stderr)


def convert(conversion: Conversion) -> None:
    """Write the checkpoint, with a progress bar, and report its size."""
    progress = Progress()
    try:
        with stopped_by_signals(), messages_on_success():
            target = conversion.write(progress)
    finally:
        progress.close()
    size = sum(file.stat().st_size for file in target.iterdir())
    print(f"{target}: {size / 1e9:.2f} GB", file=sys.stderr)


def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    parser = build_parser(prog or "python -m mlx_voxcpm2.convert")
    return run(parser, partial(convert_and_upload, parser), argv)


if __name__ == "__main__":
    sys.exit(main())
