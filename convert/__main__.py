"""The command line: `python -m mlx_voxcpm2.convert --hf_path openbmb/VoxCPM2 --mlx_path …`."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass, replace
from functools import partial

from mlx_voxcpm2.commands.shell import Parser, flag, messages_on_success, run, stopped_by_signals
from mlx_voxcpm2.weights.adapter_files import split_strength
from mlx_voxcpm2.weights.quantization import MODE_RECIPES, RECIPES, Quantization, find_recipe

_UPLOAD_FLAGS = {"private", "measured"}


def build_parser(prog: str) -> Parser:
    parser = Parser(
        prog=prog,
        description="Write a VoxCPM2 checkpoint for MLX. Flags may be spelled with - for _.",
    )
    flag(parser, "hf_path", "model", metavar="PATH_OR_REPO", help="the checkpoint to convert")
    target = "the folder to write (default %(default)s)"
    flag(parser, "mlx_path", default="mlx_model", metavar="PATH", help=target)
    flag(parser, "revision", help="branch, tag or commit of the hub repository")
    flag(parser, "overwrite", action="store_true", help="replace an existing checkpoint")
    layouts = "mlx-audio (default), which mlx-audio reads too, or mlx-voxcpm2"
    flag(parser, "layout", default="mlx-audio", help=layouts)
    adapter, adapters = "PATH_OR_REPO[:STRENGTH]", "a LoRA adapter to fuse into the weights"
    flag(parser, "adapter", "lora_path", metavar=adapter, help=adapters)
    numbers = parser.add_argument_group("precision")
    dtypes = "bfloat16 (default), float16 or float32, of unquantised weights"
    flag(numbers, "dtype", help=dtypes)
    recipes = ", ".join((*RECIPES, *MODE_RECIPES))
    flag(numbers, "recipe", "quant_predicate", metavar="NAME", help=recipes)
    quantize = "quantise to 4 bits, or as the following say"
    numbers.add_argument("-q", "--quantize", action="store_true", help=quantize)
    flag(numbers, "q_bits", type=int, metavar="N", help="bits of a weight (default 4)")
    flag(numbers, "q_group_size", type=int, metavar="N", help="weights that share a scale")
    flag(numbers, "q_mode", metavar="MODE", help="affine (default), mxfp4, mxfp8 or nvfp4")
    hub = parser.add_argument_group("upload", "Without --hf_path, of the checkpoint in --mlx_path.")
    upload = "write a model card and upload to the hub"
    flag(hub, "upload_repo", metavar="OWNER/NAME", help=upload)
    flag(hub, "private", action="store_true", help="make the repository private")
    flag(hub, "measured", metavar="FILE", help="output of benchmarks/quantisation.py, for the card")
    return parser


@dataclass(frozen=True)
class Conversion:
    """Arguments of `convert`."""

    hf_path: str
    mlx_path: str
    dtype: str | None
    revision: str | None
    quantize: str | Quantization | None
    layout: str
    overwrite: bool
    adapter: str | None
    adapter_strength: float | None


@dataclass(frozen=True)
class Upload:
    """Arguments of `publish`."""

    folder: str
    repo_id: str
    private: bool
    base_model: str | None
    measured: str | None


@dataclass(frozen=True)
class ConvertCommand:
    """A parsed command line: a conversion, an upload, or both."""

    conversion: Conversion | None
    upload: Upload | None

    @classmethod
    def parse(cls, parser: Parser, args: argparse.Namespace) -> ConvertCommand:
        """Raises ValueError for flags that contradict each other or have no effect."""
        check(parser, args)
        conversion = upload = None
        if args.hf_path is not None:
            adapter = (None, None) if args.adapter is None else split_strength(args.adapter)
            conversion = Conversion(
                args.hf_path,
                args.mlx_path,
                args.dtype,
                args.revision,
                choose_quantization(args),
                args.layout,
                args.overwrite,
                *adapter,
            )
        if args.upload_repo is not None:
            is_local = args.hf_path is None or os.path.exists(os.path.expanduser(args.hf_path))
            base_model = None if is_local else args.hf_path
            upload = Upload(
                args.mlx_path, args.upload_repo, args.private, base_model, args.measured
            )
        return cls(conversion, upload)


def check(parser: Parser, args: argparse.Namespace) -> None:
    """Raises ValueError for flags that are empty or have no effect."""
    given = [name for name, value in vars(args).items() if value != parser.get_default(name)]
    for name in given:
        if getattr(args, name) == "":  # as a path it would be the working directory
            raise ValueError(f"--{name} is empty; give it a value, or leave it out")
    if args.hf_path is None and args.upload_repo is None:
        raise ValueError("--hf_path is missing: what shall be converted?")
    idle = set(given) & _UPLOAD_FLAGS if args.upload_repo is None else set()
    if args.hf_path is None:
        idle |= set(given) - _UPLOAD_FLAGS - {"mlx_path", "upload_repo", "verbose"}
    if idle:
        missing = "--upload_repo" if args.upload_repo is None else "--hf_path"
        raise ValueError(f"--{min(idle)} does nothing without {missing}")


def choose_quantization(args: argparse.Namespace) -> str | Quantization | None:
    """The argument `quantize` of `convert`. Raises ValueError."""
    names = ("q_bits", "q_group_size", "q_mode")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.recipe is None and not args.quantize:
        if given:
            raise ValueError(f"--{next(iter(given))} says how to quantise; give --quantize too")
        return None
    if args.recipe is None:
        return Quantization(args.q_bits, args.q_group_size, args.q_mode or "affine")
    recipe = find_recipe(args.recipe)
    if recipe is None and (given or args.quantize):
        raise ValueError(f"recipe {args.recipe} quantises nothing; leave --quantize out")
    group_size = given.pop("q_group_size", None)
    if given:
        raise ValueError(f"recipe {args.recipe} says it; leave --{next(iter(given))} out")
    return args.recipe if group_size is None else replace(recipe, group_size=group_size)


class Progress:
    """Progress bar per stage, on a terminal only."""

    def __init__(self):
        self._stage, self._bar = "", None

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
    """Runs the command."""
    command = ConvertCommand.parse(parser, args)
    conversion, upload = command.conversion, command.upload
    if conversion is None:
        publish(upload)
    elif upload is None:
        convert(conversion)
    else:
        from .publish import check_upload

        check_upload(upload.repo_id)  # now, not after an hour of converting
        convert(conversion)
        try:
            publish(upload)
        except (ValueError, OSError) as error:
            hint = f"{upload.folder} is complete: without --hf_path this command only uploads it"
            raise OSError(f"{error}; {hint}") from None


def convert(conversion: Conversion) -> None:
    from .checkpoint import convert

    progress = Progress()
    try:
        with stopped_by_signals(), messages_on_success():
            target = convert(**vars(conversion), progress=progress)
    finally:
        progress.close()
    size = sum(file.stat().st_size for file in target.iterdir())
    print(f"{target}: {size / 1e9:.2f} GB", file=sys.stderr)


def publish(upload: Upload) -> None:
    from .publish import publish

    print(publish(**vars(upload)), file=sys.stderr)


def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    parser = build_parser(prog or "python -m mlx_voxcpm2.convert")
    return run(parser, partial(convert_and_upload, parser), argv)


if __name__ == "__main__":
    sys.exit(main())
