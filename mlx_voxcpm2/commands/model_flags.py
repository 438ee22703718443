"""The flags that choose a model, and the model that they choose."""

from __future__ import annotations

import argparse
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from .option_flags import add_option_flags
from .shell import Parser, flag

if TYPE_CHECKING:
    from ..model import VoxCPM2

DEFAULT_MODEL = "openbmb/VoxCPM2"

logger = logging.getLogger("mlx_voxcpm2")


def add_model_flags(parser: Parser) -> None:
    """Which model speaks, and how it draws."""
    model = parser.add_argument_group("how")
    flag(
        model, "model", "model_path", "hf_model_id", default=DEFAULT_MODEL, metavar="PATH_OR_REPO",
        help="a folder or hub repository (default %(default)s)",
    )  # fmt: skip
    flag(model, "revision", help="of the hub repository")
    flag(model, "dtype", help="bfloat16 (default; a CPU computes in float32), float16 or float32")
    flag(model, "quantize", metavar="RECIPE", help="8bit, 4bit … in memory, as convert would")
    flag(
        model, "adapter", "lora_path", metavar="PATH_OR_REPO[:STRENGTH]",
        help="a LoRA adapter; of strength 1 unless it says another",
    )  # fmt: skip
    flag(model, "verbose", action="store_true", help="say what is loaded and done")
    add_option_flags(parser)


def read_text(args: argparse.Namespace, name: str = "text") -> str | None:
    """--NAME, or the content of its file (--text_file, --prompt_file); None if neither is given."""
    given, file = getattr(args, name), getattr(args, name.removesuffix("_text") + "_file")
    if given is not None and file is not None:
        raise ValueError(f"{name} and a file with it are both given; leave one out")
    if file is None:
        return given
    try:
        return Path(os.path.expanduser(file)).read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError:
        raise ValueError(f"{file}: not UTF-8 text; save it as UTF-8") from None
    except FileNotFoundError:
        raise FileNotFoundError(f"{file}: no such file; check the path") from None
    except IsADirectoryError:
        raise ValueError(f"{file} is a folder; give a text file") from None


def load(args: argparse.Namespace) -> VoxCPM2:
    """The model of `add_model_flags`."""
    import mlx.core as mx

    from ..load import load_model
    from ..weights.adapter_files import split_strength

    adapter, strength = (None, None) if args.adapter is None else split_strength(args.adapter)
    begin = time.perf_counter()
    model = load_model(args.model, args.dtype, args.revision, args.quantize, adapter, strength)
    logger.info(
        "%s: %s on %s, loaded in %.1f s", args.model, str(model.dtype).split(".")[-1],
        mx.default_device(), time.perf_counter() - begin,
    )  # fmt: skip
    return model


def chosen_weights(args: argparse.Namespace) -> dict[str, object]:
    """What chose the model, by `generate.add_model_flags`."""
    found = {name: getattr(args, name) for name in ("revision", "dtype", "quantize")}
    for name in ("model", "adapter"):
        value = getattr(args, name)
        there = value is not None and os.path.exists(os.path.expanduser(value))
        found[name] = os.path.realpath(os.path.expanduser(value)) if there else value
    return found
