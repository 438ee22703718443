"""Verdicts of earlier trials, in one JSON file in the cache folder.

A verdict counts for one device, version of MLX, source of the kernel, and shape class. A file that
can't be read, or written, costs the trials of a load; two processes that write at once, those of
one of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

import mlx.core as mx

from ..documents import read_json
from ..file_names import cache_folder
from ..files import atomic_write
from ..layers.custom.kernel import CustomKernel, Operation
from .trial import Verdict

_VERSION = 1  # of the file's structure, and of how kernels are tried


def verdict_file() -> Path:
    """The file. It may not exist yet."""
    return cache_folder() / "kernels.json"


def device_name() -> str:
    """Name of the default device, as MLX knows it."""
    return str(mx.device_info().get("device_name", mx.default_device()))


def _machine() -> str:
    return f"{device_name()}, MLX {mx.__version__}"


def _source(kernel: CustomKernel) -> str:
    return hashlib.sha256("\0".join(kernel.sources).encode()).hexdigest()[:12]


def _read() -> dict[str, dict[str, dict]]:
    """Content of the file by machine; empty if it is missing or damaged."""
    try:
        content = read_json(verdict_file(), "delete it")
        machines = content["machines"] if content["version"] == _VERSION else {}
        return {name: dict(found) for name, found in machines.items()}
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError):
        return {}


class Verdicts:
    """Verdicts for this machine."""

    def __init__(self):
        self._known = _read().get(_machine(), {})
        self._new: dict[str, dict] = {}

    def find(self, operation: Operation) -> Verdict | None:
        """The verdict on an operation, None if it has to be tried."""
        entry = self._known.get(_key(operation))
        try:
            variant = entry["variant"] and tuple(sorted(entry["variant"].items()))
            ratio, fault = entry["ratio"], str(entry["fault"])
            choices = {tuple(sorted(each)): each for each in operation.variants}
            if ratio is not None:
                ratio = float(ratio)
            return Verdict(None if variant is None else choices[variant], ratio, fault)
        except (KeyError, TypeError, ValueError, AttributeError):
            return None

    def add(self, operation: Operation, verdict: Verdict) -> None:
        """Stores the verdict on an operation, to be written by `save`."""
        variant = None if verdict.variant is None else dict(verdict.variant)
        entry = {"variant": variant, "ratio": verdict.ratio, "fault": verdict.fault}
        self._known[_key(operation)] = self._new[_key(operation)] = entry

    def save(self) -> None:
        """Writes new verdicts beside those that the file has by now, if it can be written."""
        if not self._new:
            return
        machines = _read()
        machines.setdefault(_machine(), {}).update(self._new)
        content = {"version": _VERSION, "machines": machines}
        with contextlib.suppress(OSError, RuntimeError):  # also: no home folder
            verdict_file().parent.mkdir(parents=True, exist_ok=True)
            atomic_write(verdict_file(), json.dumps(content, indent=1).encode())


def _key(operation: Operation) -> str:
    kernel = operation.kernel
    return f"{kernel.name} {_source(kernel)} {operation!r}"


def summary() -> dict[str, list[Verdict]]:
    """Verdicts on this machine, by the kernel's name."""
    found: dict[str, list[Verdict]] = {}
    for key, entry in _read().get(_machine(), {}).items():
        with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):
            used = None if entry["variant"] is None else tuple(entry["variant"].items())
            verdict = Verdict(used, entry["ratio"], str(entry["fault"]))
            found.setdefault(key.split()[0], []).append(verdict)
    return found
