"""Facts about the machine and the installation, for reports."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

PACKAGE = "mlx-voxcpm2"
# Which decide speed or behaviour; others follow from the package's requirements.
_REPORTED = ("mlx", "mlx-lm", "numpy", "huggingface_hub", "transformers")


def processor() -> str:
    """Name of the processor."""
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout.strip()
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.+)", info.read_text()) if info.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


def memory_bytes() -> int:
    """Size of the memory; of a container, its limit."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            return min(total, int(Path(file).read_text()))
        except (OSError, ValueError):
            continue
    return total


def resident_peak_bytes() -> int:
    """Largest resident size of this process so far."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def library_versions() -> dict[str, str]:
    """Versions of the installed libraries that matter most, by name."""
    found = {}
    for name in _REPORTED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def missing_by_extra() -> dict[str, list[str]]:
    """Packages of each extra that are not installed, or not in the version that it needs."""
    from packaging.requirements import Requirement

    metadata = importlib.metadata.metadata(PACKAGE)
    required = [Requirement(line) for line in importlib.metadata.requires(PACKAGE) or ()]
    found = {}
    for extra in metadata.get_all("Provides-Extra") or ():
        wanted = [
            each
            for each in required
            if each.marker
            and each.marker.evaluate({"extra": extra})
            and not each.marker.evaluate({"extra": ""})
        ]
        if wanted:  # none for another system's
            found[extra] = [each.name for each in wanted if not _is_installed(each)]
    return found


def _is_installed(requirement) -> bool:
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return requirement.specifier.contains(version, prereleases=True)


def machine_facts() -> dict[str, object]:
    """Processor, cores, memory, system, MLX's device and what multiplies its matrices."""
    from ..layers import blas

    import mlx.core as mx  # isort: skip  after the choice of a BLAS

    is_gpu = mx.default_device() == mx.Device(mx.gpu)
    multiplied_by = "Accelerate" if sys.platform == "darwin" else "MLX's slow one"
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_bytes": memory_bytes(),
        "system": platform.platform(),
        "device": "GPU" if is_gpu else "CPU",
        "blas": "not used" if is_gpu else blas.FAST_BLAS or multiplied_by,
    }
