"""MLX runs on a fast BLAS where there is one, and says so where it does not."""

import ctypes.util
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux wheels only")

NEEDS_OPENBLAS = pytest.mark.skipif(
    ctypes.util.find_library("openblas") is None, reason="OpenBLAS is not installed"
)
REPORT = "from mlx_voxcpm2 import backend; print(backend.OPENBLAS, backend.slow_blas_hint())"


def run(script: str, **environment: str) -> str:
    environment = {**os.environ, "LD_PRELOAD": "", **environment}
    command = [sys.executable, "-c", script]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env=environment
    ).stdout.strip()


@NEEDS_OPENBLAS
def test_openblas_is_found_when_the_package_comes_first():
    assert run(REPORT) == "True None"


@NEEDS_OPENBLAS
def test_preloading_works_in_any_order():
    assert run("import mlx.core;" + REPORT, LD_PRELOAD="libopenblas.so.0") == "True None"


def test_coming_too_late_is_said():
    """On a GPU it does not matter."""
    script = "import mlx.core as mx; mx.set_default_device(mx.cpu);"
    assert "LD_PRELOAD=libopenblas.so.0" in run(script + REPORT)
