"""What differs between MLX's backends. The package imports this before it imports MLX."""

from __future__ import annotations

import ctypes
import sys


def _serves_blas() -> bool:
    """Whether OpenBLAS is among the libraries whose names all others see."""
    return hasattr(ctypes.CDLL(None), "openblas_get_config")


def use_openblas() -> bool:
    """Has OpenBLAS serve MLX's matrix products on Linux, if it can; returns whether it does.

    The wheel's own BLAS is a reference implementation, 27 times slower in float32. MLX resolves
    the names of BLAS when it is loaded, so whichever library the process has by then wins.
    """
    if sys.platform != "linux":
        return False
    if "mlx.core" in sys.modules or _serves_blas():
        return _serves_blas()
    for name in ("libopenblas.so.0", "libopenblas.so"):
        try:
            ctypes.CDLL(name, ctypes.RTLD_GLOBAL)
        except OSError:
            continue
        return True
    return False


OPENBLAS = use_openblas()


def slow_blas_hint() -> str | None:
    """What to do about slow matrix products on this machine, or None where they are fast."""
    import mlx.core as mx

    if sys.platform != "linux" or OPENBLAS or mx.default_device() != mx.Device(mx.cpu):
        return None
    return (
        "MLX multiplies matrices with its slow BLAS here: install OpenBLAS (apt install "
        "libopenblas0-pthread) and import mlx_voxcpm2 before mlx, or start with "
        "LD_PRELOAD=libopenblas.so.0"
    )
