"""The command line: `python -m mlx_voxcpm2.convert --hf_path openbmb/VoxCPM2 --mlx_path …`."""

from __future__ import annotations

import argparse
import sys

from mlx_voxcpm2.command import Parser, flag, messages_on_success, run


def build_parser(prog: str) -> Parser:
    parser = Parser(
        prog=prog,
        description="Write a VoxCPM2 checkpoint for MLX. Flags may be spelled with - for _.",
    )
    flag(parser, "hf_path", required=True, metavar="PATH_OR_REPO", help="what to convert")
    flag(parser, "mlx_path", required=True, metavar="PATH", help="the folder to write")
    flag(parser, "dtype", help="bfloat16 (default), float16 or float32")
    flag(parser, "revision", help="of the hub repository")
    return parser


def convert(args: argparse.Namespace) -> None:
    from .checkpoint import convert

    with messages_on_success():
        target = convert(args.hf_path, args.mlx_path, args.dtype, args.revision)
    print(target, file=sys.stderr)


def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    return run(build_parser(prog or "python -m mlx_voxcpm2.convert"), convert, argv)


if __name__ == "__main__":
    sys.exit(main())
