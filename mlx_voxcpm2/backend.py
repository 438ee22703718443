"""What differs between MLX's backends. Imported before MLX is."""

from __future__ import annotations

import ctypes
import sys


def use_openblas() -> bool:
    """Whether OpenBLAS serves MLX's matrix products on Linux, which this sees to if it can.

    The wheel's own BLAS is a reference implementation, 27 times slower in float32. MLX resolves
    the names of BLAS when it is loaded, so whichever library the process has by then wins.
    """
    if sys.platform != "linux" or "mlx.core" in sys.modules:
        return False
    for name in ("libopenblas.so.0", "libopenblas.so"):
        try:
            ctypes.CDLL(name, ctypes.RTLD_GLOBAL)
        except OSError:
            continue
        return True
    return False


use_openblas()
