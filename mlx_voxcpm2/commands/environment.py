"""The flags for the device and the hub's cache, which hold for the whole process."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from typing import Any

from .parser import Parser, flag


def add_hub_flags(parser: Parser | argparse._ArgumentGroup) -> None:
    """Add --cache_dir and --local_files_only."""
    cache = "folder of downloads, as the environment variable HF_HUB_CACHE"
    flag(parser, "cache_dir", metavar="PATH", help=cache)
    offline = "download nothing, as HF_HUB_OFFLINE=1"
    flag(parser, "local_files_only", action="store_true", help=offline)


def add_device_flag(parser: Parser | argparse._ArgumentGroup) -> None:
    """Add --device."""
    devices = "auto (default: the GPU if there is one), cpu, gpu, mps, cuda or cuda:N"
    flag(parser, "device", metavar="NAME", help=devices)


def apply_environment(flags: Mapping[str, Any]) -> None:
    """Apply the values of those flags. Raises ValueError, in one line, for a device that is not
    there."""
    if flags.get("cache_dir"):
        os.environ["HF_HUB_CACHE"] = os.path.expanduser(flags["cache_dir"])
    if flags.get("local_files_only"):
        os.environ["HF_HUB_OFFLINE"] = "1"
    if flags.get("device") not in (None, "auto"):
        _choose_device(flags["device"])


def _choose_device(name: str) -> None:
    import mlx.core as mx

    kind, _, number = name.partition(":")
    systems = {"cpu": None, "gpu": None, "mps": "darwin", "metal": "darwin", "cuda": "linux"}
    if kind not in systems or (number and not (kind == "cuda" and number.isdecimal())):
        raise ValueError(f"--device is {name!r}; it must be auto, cpu, gpu, mps, cuda or cuda:N")
    if kind == "cpu":
        mx.set_default_device(mx.Device(mx.cpu))
        return
    is_here = mx.is_available(mx.gpu) and systems[kind] in (None, sys.platform)
    if not is_here:
        raise ValueError(f"--device {name} is not here for MLX; leave --device out, or give cpu")
    mx.set_default_device(mx.Device(mx.gpu, int(number or 0)))
