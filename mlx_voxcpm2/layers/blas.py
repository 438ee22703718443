"""Choice of the library that multiplies MLX's matrices on Linux's CPUs. Import before MLX."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path


def serving_blas() -> str | None:
    """Name of the fast BLAS that the process has loaded for all libraries, or None."""
    names = ctypes.CDLL(None)
    known = {"mkl_get_version": "MKL", "openblas_get_config": "OpenBLAS"}
    return next((name for symbol, name in known.items() if hasattr(names, symbol)), None)


def use_fast_blas() -> str | None:
    """Loads a fast BLAS for MLX's matrix products on Linux, if there is one; returns its name.

    The wheel's own BLAS is a reference implementation, 27 times slower in float32. MLX resolves
    the names of BLAS when it is loaded, and takes a library that the process has loaded by then.
    """
    if sys.platform != "linux":
        return None
    if "mlx.core" not in sys.modules and serving_blas() is None:
        _load("libopenblas.so.0") or _load("libopenblas.so") or _load(*mkl_libraries())
    return serving_blas()


def mkl_libraries() -> list[str]:
    """Paths of the libraries that `pip install mkl` installed, in the order of loading."""
    folder = Path(sys.prefix) / "lib"
    return [str(file) for name in ("libiomp5.so", "libmkl_rt.so.*") for file in folder.glob(name)]


def _load(*libraries: str) -> bool:
    """Loads libraries, with their names visible to all others; returns whether it could."""
    try:
        for library in libraries:
            ctypes.CDLL(library, ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return bool(libraries)


FAST_BLAS = use_fast_blas()
