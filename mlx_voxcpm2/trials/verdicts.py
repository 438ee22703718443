"""Verdicts of earlier trials, in one JSON file in the cache folder.

A verdict counts for one device, version of MLX, kernel with its launch and plain graph, and shape
class. A file that can't be read, or written, costs the trials of a load; two processes that write
at once, those of one of them. Delete the file to have all tried again.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType

import mlx.core as mx

from ..documents import read_json
from ..file_names import cache_folder
from ..files import atomic_write
from ..layers import kernels, kernels_gpu
from ..layers.custom.kernel import Operation
from .trial import Verdict

_VERSION = 2  # of the file's structure, and of how kernels are tried

# By machine and key: verdicts that the next process is not to inherit, such as lack of memory.
_of_this_process: dict[tuple[str, str], Verdict] = {}


def verdict_file() -> Path:
    """The file. It may not exist yet."""
    return cache_folder() / "kernels.json"


def device_name() -> str:
    """Name of the default device, as MLX knows it."""
    return str(mx.device_info().get("device_name", mx.default_device()))


def _machine() -> str:
    return f"{_device_prefix()}{mx.__version__}"


def _device_prefix() -> str:
    return f"{device_name()}, MLX "


@cache
def _module_source(module: ModuleType) -> str:
    """Text of a module; empty where it is installed without."""
    try:
        return inspect.getsource(module)
    except (OSError, TypeError):
        return ""


def _source(operation: Operation) -> str:
    """Fingerprint of the kernel, its launch, and the plain graph with what that calls."""
    modules = sys.modules[type(operation).__module__], kernels, kernels_gpu
    texts = *operation.kernel.sources, *map(_module_source, modules)
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]


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
        self._prefixes: dict[str, str] = {}

    def find(self, operation: Operation) -> Verdict | None:
        """The verdict on an operation, None if it has to be tried."""
        key = _key(operation)
        verdict = _of_this_process.get((_machine(), key)) or _verdict(self._known.get(key))
        if verdict is None or verdict.variant is None:
            return verdict
        wanted = sorted(verdict.variant)
        choices = [each for each in operation.variants if sorted(each) == wanted]
        return replace(verdict, variant=choices[0]) if choices else None

    def add(self, operation: Operation, verdict: Verdict) -> None:
        """Keeps the verdict on an operation; `save` writes it if it is final."""
        if not verdict.is_final:
            _of_this_process[_machine(), _key(operation)] = verdict
            return
        self._prefixes[operation.kernel.name] = _prefix(operation)
        variant = None if verdict.variant is None else dict(verdict.variant)
        entry = {"variant": variant, "ratio": verdict.ratio, "fault": verdict.fault}
        self._known[_key(operation)] = self._new[_key(operation)] = entry

    def save(self) -> None:
        """Writes new verdicts beside those that the file has by now, if it can be written.

        This device's verdicts on other sources of these kernels go, under any version of MLX.
        """
        if not self._new:
            return
        machines = _read()
        for name in [name for name in machines if name.startswith(_device_prefix())]:
            machines[name] = {
                key: entry
                for key, entry in machines[name].items()
                if key.startswith(self._prefixes.get(key.split(" ")[0], ""))
            }
        machines.setdefault(_machine(), {}).update(self._new)
        content = {"version": _VERSION, "machines": machines}
        with contextlib.suppress(OSError, RuntimeError):  # also: no home folder
            verdict_file().parent.mkdir(parents=True, exist_ok=True)
            atomic_write(verdict_file(), json.dumps(content, indent=1).encode())


def _key(operation: Operation) -> str:
    return f"{_prefix(operation)}{operation!r}"


def _prefix(operation: Operation) -> str:
    return f"{operation.kernel.name} {_source(operation)} "


def _verdict(entry: object) -> Verdict | None:
    """The verdict of an entry, None if it is missing or damaged."""
    match entry:
        case {"variant": None, "ratio": None | int() | float() as ratio, "fault": str(fault)}:
            return Verdict(None, ratio, fault)
        case {"variant": dict(variant), "ratio": int() | float() as ratio, "fault": str(fault)}:
            return Verdict(tuple(variant.items()), ratio, fault)
    return None


def summary() -> dict[str, list[Verdict]]:
    """Verdicts on this machine, by the kernel's name."""
    found: dict[str, list[Verdict]] = {}
    for key, entry in _read().get(_machine(), {}).items():
        verdict = _verdict(entry)
        if verdict is not None:
            found.setdefault(key.partition(" ")[0], []).append(verdict)
    return found
