"""Kernels, casts and waits of a patch at the released size, counted without computing."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))

from graph_counts import count_graph


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_patch_casts_no_weight_and_waits_once(dtype):
    counts = count_graph(dtype)
    assert counts["weight_casts"] == []
    # The stop decision, and the audio of the patch.
    assert counts["syncs"] == {"reads": 1, "waits": 1}
    # Of the noise, and of the latents before the AudioVAE.
    assert counts["total"]["casts"] <= 2
    assert counts["total"]["kernels"] <= 1695
