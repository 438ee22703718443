"""A CPU's kernels, compiled by a process of its own while this one speaks without them.

Which functions can do without kernels, and why, is said in `layers/compiled.py`; what the process
does, in `kernel_rehearsal.py` here and in `vibevoice/`.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.nn as nn

from .. import __version__
from ..layers.compiled import FUSION

if TYPE_CHECKING:
    from ..models.family import Network

logger = logging.getLogger("mlx_voxcpm2")

# 40 s of speech. A kernel saves a small part of a millisecond at each patch: all of them, 20 ms of
# the demo's 40, so that 1500 patches repay half a minute of g++.
PATCHES_BEFORE = 250


@dataclass(frozen=True)
class KernelUse:
    """Facts about a model that decide which kernels it uses."""

    config: Any
    """The network's configuration, a frozen dataclass."""
    activations: str
    matrices: str
    """Types of the activations and of the unquantised matrices, such as "float32"."""
    quantization: tuple[int, int, str] | None
    """Group size, bits and mode of the first quantised layer; None if there is none."""

    @classmethod
    def of(cls, model: Network) -> KernelUse:
        named, full = model.named_modules(), model.family.float32
        layers = [layer for name, layer in named if not name.startswith(full)]
        quantised = [layer for layer in layers if isinstance(layer, nn.QuantizedLinear)]
        first = quantised[0] if quantised else None
        settings = None if first is None else (first.group_size, first.bits, first.mode)
        activations: Any = model.dtype
        plain = [layer["weight"].dtype for layer in layers if type(layer) is nn.Linear]
        matrices = plain[0] if plain else activations
        return cls(model.config, _name(activations), _name(matrices), settings)

    @property
    def key(self) -> str:
        """Name of these kernels: a hash that changes with MLX and with this package."""
        versions = version("mlx"), __version__
        return hashlib.sha256(repr((versions, self)).encode()).hexdigest()[:16]


def _name(dtype: mx.Dtype) -> str:
    return str(dtype).rsplit(".", maxsplit=1)[-1]


def list_name(key: str) -> str:
    """Path, in the temporary folder, of the list of the kernels that are ready."""
    return f"mlx/voxcpm2-{key}.txt"


def _are_ready(key: str) -> bool:
    """Whether all kernels of an earlier build are still there."""
    folder = Path(tempfile.gettempdir())
    try:
        names = (folder / list_name(key)).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return False
    return bool(names) and all((folder / name).is_file() for name in names)


class KernelBuild:
    """Decides when kernels are compiled for this process, and when it uses them."""

    def __init__(self):
        self._lock = threading.Lock()
        self._patches = 0
        self._process: subprocess.Popen | None = None

    def count_patch(self, model: Network) -> None:
        """Call once for each patch, or frame, that is generated."""
        is_due = FUSION.is_exact and FUSION.is_postponed()
        if not is_due or not self._lock.acquire(blocking=False):
            return
        try:
            self._patches += 1
            if self._patches == 1:
                FUSION.is_on = _are_ready(KernelUse.of(model).key)
            elif self._patches == PATCHES_BEFORE and model.family.rehearsal and _can_compile():
                self._start(KernelUse.of(model), model.family.rehearsal)
            elif self._process is not None and self._process.poll() == 0:
                logger.info("kernels compiled; from now on they are used")
                FUSION.is_on, self._process = True, None
        finally:
            self._lock.release()

    def _start(self, use: KernelUse, rehearsal: str) -> None:
        target = tempfile.gettempdir()
        try:
            folder = tempfile.mkdtemp(prefix="mlx_voxcpm2-")
            changes = {"TMPDIR": folder, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            self._process = subprocess.Popen(
                [sys.executable, "-m", rehearsal],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=os.environ | changes | {"OPENBLAS_NUM_THREADS": "1"},
                start_new_session=True,  # Ctrl-C is for this process, which stops the other
            )
            atexit.register(_stop, self._process, folder)
            assert self._process.stdin is not None
            with self._process.stdin as stdin:
                stdin.write(pickle.dumps((use, target)))
        except OSError as error:
            logger.info("no kernels are compiled (%s); speech stays slower", error)


def _can_compile() -> bool:
    """Whether MLX would compile kernels here, in a process that can be started."""
    disabled = os.environ.get("MLX_DISABLE_COMPILE")
    return bool(sys.executable) and not disabled and shutil.which("g++") is not None


def _stop(process: subprocess.Popen, folder: str) -> None:
    """Ends a build that is under way, with the compiler that it has started."""
    with contextlib.suppress(ProcessLookupError):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
    shutil.rmtree(folder, ignore_errors=True)


KERNELS = KernelBuild()
