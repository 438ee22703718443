"""Kernels, casts and waits of a patch, frame or token at the released size, without computing."""

import shutil
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))

from dialogue_graph_counts import count_frame
from graph_counts import count_graph
from recognition_graph_counts import count_token

from mlx_voxcpm2.layers.device import on_cpu


def assert_kernels(counts: dict, most: int) -> None:
    """At most so many kernels, where MLX can fuse any: on a CPU it needs a compiler for that."""
    if not on_cpu() or shutil.which("g++"):
        assert counts["kernels"] <= most


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_patch_casts_no_weight_and_waits_once(dtype):
    counts = count_graph(dtype)
    assert counts["weight_casts"] == []
    # The stop decision, and the audio of the patch.
    assert counts["syncs"] == {"reads": 1, "waits": 1}
    # Of the noise, and of the latents before the AudioVAE.
    assert counts["total"]["casts"] <= 2
    assert_kernels(counts["total"], 1695)


def test_custom_kernels_leave_less_than_twelve_hundred_kernels_of_a_patch():
    counts = count_graph("bfloat16", custom=True)
    assert counts["weight_casts"] == [] and counts["syncs"] == {"reads": 1, "waits": 1}
    assert counts["total"]["casts"] <= 2
    assert_kernels(counts["total"], 1163)
    # Attention, three products and the gated one, where there were nine.
    assert_kernels(counts["parts"]["DiT solve"], 612)


def test_a_frame_of_a_dialogue_casts_no_weight_and_waits_once():
    counts = count_frame("bfloat16")
    assert counts["weight_casts"] == []
    # The choice of the next token, with which the audio is ready.
    assert counts["syncs"] == {"reads": 1, "waits": 1}
    # Of the noisy latent and the velocity, at each solver step, and at the codecs' borders.
    assert counts["total"]["casts"] <= 23
    assert_kernels(counts["total"], 1198)
    # Positive and negative branch are one pass over the weights.
    assert_kernels(counts["parts"]["language model"], 309)


@pytest.mark.parametrize(("temperature", "kernels"), [(0.0, 340), (0.2, 365)])
def test_a_token_of_a_transcript_casts_no_weight_and_is_the_only_read(temperature, kernels):
    counts = count_token("bfloat16", temperature)
    assert counts["weight_casts"] == []
    # The token; its log-probability is read at the end of the text.
    assert counts["syncs"] == {"reads": 1, "waits": 0}
    # Of the logits, to float32; of random bits.
    assert counts["total"]["casts"] <= (2 if temperature else 1)
    # Eleven per layer.
    assert_kernels(counts["total"], kernels)
