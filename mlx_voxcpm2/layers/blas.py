"""Which library multiplies MLX's matrices on a CPU under Linux. Imported before MLX is."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path


def serving_blas() -> str | None:
    """The fast BLAS among the libraries whose names all others see."""
    names = ctypes.CDLL(None)
    known = {"mkl_get_version": "MKL", "openblas_get_config": "OpenBLAS"}
    return next((name for symbol, name in known.items() if hasattr(names, symbol)), None)


def use_fast_blas() -> str | None:
    """Has a fast BLAS serve MLX's matrix products on Linux, if it can; returns which one does.

    The wheel's own BLAS is a reference implementation, 27 times slower in float32. MLX resolves
    the names of BLAS when it is loaded, so whichever library the process has by then wins.
    """
    if sys.platform != "linux":
        return None
    if "mlx.core" not in sys.modules and serving_blas() is None:
        _load("libopenblas.so.0") or _load("libopenblas.so") or _load(*mkl_libraries())
    return serving_blas()


def mkl_libraries() -> list[str]:
    """What `pip install mkl` brought: its threads, and itself."""
    folder = Path(sys.prefix) / "lib"
    return [str(file) for name in ("libiomp5.so", "libmkl_rt.so.*") for file in folder.glob(name)]


def _load(*libraries: str) -> bool:
    """Whether they are there, now for all to see."""
    try:
        for library in libraries:
            ctypes.CDLL(library, ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return bool(libraries)


FAST_BLAS = use_fast_blas()
