"""The command line: `python -m mlx_voxcpm2.convert --hf_path openbmb/VoxCPM2 --mlx_path …`."""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial

from mlx_voxcpm2.command import Parser, flag, messages_on_success, run


def build_parser(prog: str) -> Parser:
    parser = Parser(
        prog=prog,
        description="Write a VoxCPM2 checkpoint for MLX. Flags may be spelled with - for _.",
    )
    flag(parser, "hf_path", metavar="PATH_OR_REPO", help="what to convert")
    flag(parser, "mlx_path", required=True, metavar="PATH", help="the folder to write")
    flag(parser, "dtype", help="bfloat16 (default), float16 or float32")
    flag(parser, "revision", help="of the hub repository")
    hub = parser.add_argument_group(
        "upload", "Without --hf_path, of what --mlx_path holds already."
    )
    flag(hub, "upload_repo", metavar="OWNER/NAME", help="write a model card and upload to the hub")
    flag(hub, "private", action="store_true", help="make the repository private")
    flag(hub, "measured", metavar="FILE", help="what benchmarks/quantisation.py printed of it")
    return parser


def check(parser: Parser, args: argparse.Namespace) -> None:
    """Raises ValueError for flags that would do nothing."""
    given = [name for name, value in vars(args).items() if value != parser.get_default(name)]
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


def convert(args: argparse.Namespace) -> None:
    from .checkpoint import convert

    with messages_on_success():
        target = convert(args.hf_path, args.mlx_path, args.dtype, args.revision)
    print(target, file=sys.stderr)


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
