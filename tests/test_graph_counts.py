"""Kernels, casts and waits of a patch, frame or token at the released size, without computing."""

import re
import shutil
import sys
from pathlib import Path

import mlx.core as mx
import pytest

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))

from dialogue_graph_counts import count_frame
from graph_counts import build_model, count_graph
from graph_watch import without_memory
from recognition_graph_counts import count_token

from mlx_voxcpm2.layers import device
from mlx_voxcpm2.layers.custom import kernel
from mlx_voxcpm2.layers.custom.add_norm import AddNorm
from mlx_voxcpm2.layers.device import on_cpu
from mlx_voxcpm2.trials.prove import operations_of


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


def declared_bytes(body: str, template: dict) -> int:
    """Shared memory that a kernel's body declares, by its own expressions."""
    sizes = {name: int(value) for name, value in template.items() if name != "T"}
    for name, value in re.findall(r"constexpr int (\w+) = (.*?);", body):
        value = re.sub(r"(.*) \? (.*) : (.*)", r"(\2 if \1 else \3)", value).replace("/", "//")
        sizes[name] = eval(value, {}, sizes)
    found = re.findall(r"SHARED (\w+) \w+\[(.*?)\];", body)
    assert len(found) == body.count("SHARED")
    width = {"float": 4, "T": template["T"].size if "T" in template else 0}
    return sum(width[kind] * eval(count, {}, sizes) for kind, count in found)


@pytest.mark.parametrize(("backend", "limit"), [("metal", 32 * 1024), ("cuda", 48 * 1024)])
def test_no_variant_of_a_patch_declares_more_shared_memory_than_there_is(
    monkeypatch, backend, limit
):
    found = {}

    def launch(self, arrays, template, groups, threads, outputs):
        found[self.name, str(template)] = declared_bytes(self.body, template)
        return [mx.zeros(shape, dtype) for shape, dtype in outputs]

    monkeypatch.setattr(kernel.CustomKernel, "__call__", launch)
    monkeypatch.setattr(device, "on_cpu", lambda: False)
    monkeypatch.setattr(mx.metal, "is_available", lambda: backend == "metal")
    model = build_model()
    without_memory(model, "bfloat16", lambda name: True)
    for operation in [*operations_of(model), AddNorm(22, 1024, 1.0, 1e-5, mx.bfloat16)]:
        for variant in operation.variants:
            operation.custom(variant, *operation.example())
    assert {name for name, _ in found} == {"rope_attention", "few_rows", "add_norm", "snake_conv"}
    assert 0 < max(found.values()) <= limit
