"""The command line: `python -m mlx_voxcpm2.convert --hf_path openbmb/VoxCPM2 --mlx_path …`."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from functools import partial

from mlx_voxcpm2.commands.shell import Parser, flag, messages_on_success, run, stopped_by_signals
from mlx_voxcpm2.weights.adapter_files import split_strength
from mlx_voxcpm2.weights.quantization import MODE_RECIPES, RECIPES, Quantization, find_recipe


def build_parser(prog: str) -> Parser:
    parser = Parser(
        prog=prog,
        description="Write a VoxCPM2 checkpoint for MLX. Flags may be spelled with - for _.",
    )
    flag(parser, "hf_path", "model", metavar="PATH_OR_REPO", help="what to convert")
    flag(
        parser, "mlx_path", default="mlx_model", metavar="PATH",
        help="the folder to write (default %(default)s)",
    )  # fmt: skip
    flag(parser, "revision", help="of the hub repository")
    flag(parser, "overwrite", action="store_true", help="replace a checkpoint that is there")
    flag(
        parser, "layout", default="mlx-audio",
        help="mlx-audio (default), which it reads too, or mlx-voxcpm2",
    )  # fmt: skip
    flag(
        parser, "adapter", "lora_path", metavar="PATH_OR_REPO[:STRENGTH]",
        help="a LoRA adapter to fuse into the weights",
    )  # fmt: skip
    numbers = parser.add_argument_group("in which precision")
    flag(numbers, "dtype", help="bfloat16 (default), float16 or float32, of what isn't quantised")
    flag(
        numbers, "recipe", "quant_predicate", metavar="NAME",
        help=", ".join((*RECIPES, *MODE_RECIPES)),
    )  # fmt: skip
    numbers.add_argument(
        "-q", "--quantize", action="store_true", help="quantise to 4 bits, or as these say"
    )
    flag(numbers, "q_bits", type=int, metavar="N", help="of a weight (default 4)")
    flag(numbers, "q_group_size", type=int, metavar="N", help="weights that share a scale")
    flag(numbers, "q_mode", metavar="MODE", help="affine (default), mxfp4, mxfp8 or nvfp4")
    hub = parser.add_argument_group(
        "upload", "Without --hf_path, of what --mlx_path holds already."
    )
    flag(hub, "upload_repo", metavar="OWNER/NAME", help="write a model card and upload to the hub")
    flag(hub, "private", action="store_true", help="make the repository private")
    flag(hub, "measured", metavar="FILE", help="what benchmarks/quantisation.py printed of it")
    return parser


def check(parser: Parser, args: argparse.Namespace) -> None:
    """Raises ValueError for flags that would do nothing, or say nothing."""
    given = [name for name, value in vars(args).items() if value != parser.get_default(name)]
    for name in given:
        if getattr(args, name) == "":  # as a path it would be the folder we are in
            raise ValueError(f"--{name} is empty; give it a value, or leave it out")
    if args.hf_path is None and args.upload_repo is None:
        raise ValueError("--hf_path is missing: what shall be converted?")
    of_upload = {"private", "measured"}
    idle = set(given) & of_upload if args.upload_repo is None else set()
    if args.hf_path is None:
        idle |= set(given) - of_upload - {"mlx_path", "upload_repo", "verbose"}
    if idle:
        missing = "--upload_repo" if args.upload_repo is None else "--hf_path"
        raise ValueError(f"--{min(idle)} does nothing without {missing}")


def convert_and_upload(parser: Parser, args: argparse.Namespace) -> None:
    check(parser, args)
    if args.hf_path is None:
        upload(args)
    elif args.upload_repo is None:
        convert(args)
    else:
        from .publish import check_upload

        check_upload(args.upload_repo)  # now, not after an hour of converting
        convert(args)
        try:
            upload(args)
        except (ValueError, OSError) as error:
            hint = f"{args.mlx_path} is complete: without --hf_path this command only uploads it"
            raise OSError(f"{error}; {hint}") from None


def choose_quantization(args: argparse.Namespace) -> str | Quantization | None:
    """What `convert` takes as `quantize`, from the flags."""
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
    """A bar for each stage, on a terminal only."""

    def __init__(self):
        self._stage, self._bar = "", None

    def __call__(self, stage: str, done: int, total: int) -> None:
        from tqdm import tqdm

        if stage != self._stage:
            self.close()
            self._stage, self._bar = stage, tqdm(
                desc=stage, total=total, unit="B", unit_scale=True, disable=None,
                file=sys.stderr, leave=False,
            )  # fmt: skip
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def convert(args: argparse.Namespace) -> None:
    from .checkpoint import convert

    quantization = choose_quantization(args)
    adapter, strength = (None, None) if args.adapter is None else split_strength(args.adapter)
    progress = Progress()
    try:
        with stopped_by_signals(), messages_on_success():
            target = convert(
                args.hf_path, args.mlx_path, args.dtype, args.revision, quantize=quantization,
                layout=args.layout, overwrite=args.overwrite, adapter=adapter,
                adapter_strength=strength, progress=progress,
            )  # fmt: skip
    finally:
        progress.close()
    size = sum(file.stat().st_size for file in target.iterdir())
    print(f"{target}: {size / 1e9:.2f} GB", file=sys.stderr)


def upload(args: argparse.Namespace) -> None:
    from .publish import publish

    local = args.hf_path is None or os.path.exists(os.path.expanduser(args.hf_path))
    base_model = None if local else args.hf_path
    address = publish(args.mlx_path, args.upload_repo, args.private, base_model, args.measured)
    print(address, file=sys.stderr)


def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    parser = build_parser(prog or "python -m mlx_voxcpm2.convert")
    return run(parser, partial(convert_and_upload, parser), argv)


if __name__ == "__main__":
    sys.exit(main())
