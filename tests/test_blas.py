"""A fast BLAS is found, or its absence reported; without one the audio is the same."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlx_voxcpm2.layers import blas

LINUX_ONLY = pytest.mark.skipif(sys.platform != "linux", reason="Linux wheels only")


def _has_openblas() -> bool:
    try:
        ctypes.CDLL("libopenblas.so.0")
    except OSError:
        return False
    return sys.platform == "linux"


NEEDS_OPENBLAS = pytest.mark.skipif(not _has_openblas(), reason="OpenBLAS is not installed")
REPORT = """
from mlx_voxcpm2.layers import blas, device
import mlx.core as mx
print(blas.FAST_BLAS, *device.slowness_hints(mx.float32))
"""
# As on a machine without it.
NO_OPENBLAS = """
import ctypes
find = ctypes.CDLL
def without_openblas(name, *mode):
    if name and "openblas" in name:
        raise OSError(name)
    return find(name, *mode)
ctypes.CDLL = without_openblas
"""


def run(script: str, **environment: str) -> str:
    environment = {**os.environ, "LD_PRELOAD": "", **environment}
    command = [sys.executable, "-c", script]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env=environment
    ).stdout.strip()


@NEEDS_OPENBLAS
def test_openblas_is_found_when_the_package_comes_first():
    assert run(REPORT) == "OpenBLAS"


@LINUX_ONLY
def test_mkl_is_searched_in_the_environment_and_a_broken_one_does_no_harm(tmp_path):
    (tmp_path / "lib").mkdir()
    for name in ("libmkl_rt.so.3", "libiomp5.so"):
        (tmp_path / "lib" / name).touch()
    script = f"{NO_OPENBLAS}import sys; sys.prefix = {str(tmp_path)!r}; {REPORT}"
    script += "print(*blas.mkl_libraries())"
    libraries = f"{tmp_path}/lib/libiomp5.so {tmp_path}/lib/libmkl_rt.so.3"
    report, found = run(script).splitlines()
    assert report.startswith("None") and found == libraries


@LINUX_ONLY
@pytest.mark.skipif(not blas.mkl_libraries(), reason="MKL is not installed")
def test_mkl_is_used_without_openblas():
    assert run(NO_OPENBLAS + REPORT) == "MKL"


@NEEDS_OPENBLAS
def test_preloading_works_in_any_order():
    assert run("import mlx.core" + REPORT, LD_PRELOAD="libopenblas.so.0") == "OpenBLAS"


@LINUX_ONLY
def test_a_package_imported_after_mlx_reports_the_slow_blas():
    """On a GPU it does not matter."""
    script = "import mlx.core as mx; mx.set_default_device(mx.cpu)"
    assert "LD_PRELOAD=libopenblas.so.0" in run(script + REPORT)


@LINUX_ONLY
def test_speech_is_the_official_one_without_a_fast_blas_too(make_case):
    """Matrices are transposed in memory then, and guidance uses two cores."""
    folder = make_case("released").folder
    script = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
import mlx.core as mx
from conftest import GOLDEN, relative_error
from mlx_voxcpm2 import load_model
from mlx_voxcpm2.layers import blas
golden = mx.load(str(GOLDEN / "released.safetensors"))
noise = golden["gen.zero_shot.noise"]
options = dict(noise=noise, min_tokens=len(noise), max_tokens=len(noise), inference_timesteps=8)
model = load_model({str(folder)!r}, "float32")
(result,) = model.generate("Hello world, this is a test.", **options)
print(blas.FAST_BLAS, relative_error(result.audio, golden["gen.zero_shot.audio"]) < 1e-4)
"""
    assert run(script) == "None True"
