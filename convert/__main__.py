"""The command line: `python -m mlx_voxcpm2.convert --hf_path openbmb/VoxCPM2 --mlx_path …`."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Iterator

from mlx_voxcpm2.command import Parser, flag, messages_on_success, run


def build_parser(prog: str) -> Parser:
    parser = Parser(
        prog=prog,
        description="Write a VoxCPM2 checkpoint for MLX. Flags may be spelled with - for _.",
    )
    flag(
        parser, "hf_path", "model", required=True, metavar="PATH_OR_REPO", help="what to convert"
    )  # fmt: skip
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
    numbers = parser.add_argument_group("in which precision")
    flag(numbers, "dtype", help="bfloat16 (default), float16 or float32, of what isn't quantised")
    flag(
        numbers, "recipe", "quant_predicate", metavar="NAME",
        help="bf16, 8bit, 8bit-dit16, 4bit, 4bit-dit8, 4bit-dit16, 4bit-down6-dit8, mxfp4, mxfp8 "
        "or nvfp4",
    )  # fmt: skip
    numbers.add_argument("-q", "--quantize", action="store_true", help="quantise, or by these:")
    flag(numbers, "q_bits", type=int, metavar="N", help="of a weight (default 4)")
    flag(numbers, "q_group_size", type=int, metavar="N", help="weights that share a scale")
    flag(numbers, "q_mode", metavar="MODE", help="affine (default), mxfp4, mxfp8 or nvfp4")
    return parser


def choose_quantization(args: argparse.Namespace):
    """A recipe's name, a `Quantization`, or None, from the flags."""
    from dataclasses import replace

    from mlx_voxcpm2.quantization import Quantization, find_recipe

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


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP (a closed terminal) raise in the block, so that it clears up."""

    def stop(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def convert(args: argparse.Namespace) -> None:
    from .checkpoint import convert

    quantization = choose_quantization(args)
    progress = Progress()
    try:
        with stopped_by_signals(), messages_on_success():
            target = convert(
                args.hf_path, args.mlx_path, args.dtype, args.revision, quantize=quantization,
                layout=args.layout, overwrite=args.overwrite, progress=progress,
            )  # fmt: skip
    finally:
        progress.close()
    size = sum(file.stat().st_size for file in target.iterdir())
    print(f"{target}: {size / 1e9:.2f} GB", file=sys.stderr)


def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    return run(build_parser(prog or "python -m mlx_voxcpm2.convert"), convert, argv)


if __name__ == "__main__":
    sys.exit(main())
