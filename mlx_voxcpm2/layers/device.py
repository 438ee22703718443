"""Facts about the device that MLX computes on by default, asked at each call."""

from __future__ import annotations

import sys
import threading

from .blas import FAST_BLAS  # isort: skip  before MLX

import mlx.core as mx  # isort: skip


def on_cpu() -> bool:
    """Whether MLX's default device is the CPU."""
    return mx.default_device() == mx.Device(mx.cpu)


def has_slow_blas() -> bool:
    """Whether matrices are multiplied by the reference BLAS in MLX's Linux wheel."""
    return sys.platform == "linux" and not FAST_BLAS and on_cpu()


def uses_openblas() -> bool:
    """Whether matrices of float32 are multiplied by OpenBLAS."""
    return FAST_BLAS == "OpenBLAS" and on_cpu()


def multiplies_on_one_core(dtype: mx.Dtype) -> bool:
    """Whether a matrix product of this type uses one core only."""
    return has_slow_blas() or (on_cpu() and dtype != mx.float32)


class _Streams:
    """MLX's streams of a thread, freed when this object is."""

    def __del__(self) -> None:
        clear = getattr(mx, "clear_streams", None)
        if clear is not None:
            clear()


_thread = threading.local()


def free_streams_at_thread_end() -> None:
    """Free MLX's streams of this thread when it ends; to be called before it computes.

    MLX itself frees them after Python has seen the thread end. If Python has ended by then, the
    process is aborted (MLX 0.32). A `threading.local` is freed while its thread still runs.
    """
    if threading.current_thread() is not threading.main_thread():
        _thread.streams = getattr(_thread, "streams", None) or _Streams()


def slowness_hints(dtype: mx.Dtype) -> list[str]:
    """Advice, one line each, that would make a model of this type faster on this machine."""
    hints = []
    if has_slow_blas():
        hints.append(
            "MLX multiplies matrices with its slow BLAS here: install a fast one (apt install "
            "libopenblas0-pthread, or pip install mkl) and import mlx_voxcpm2 before mlx, or start "
            "with LD_PRELOAD=libopenblas.so.0"
        )
    if on_cpu() and dtype != mx.float32:
        hints.append(
            "a CPU is slow at 16 bits: leave out --dtype (dtype=; in training --precision), to "
            "compute in float32"
        )
    return hints
