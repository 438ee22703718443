"""How a process on a CPU gets its kernels: none at first, later those that another compiles."""

import contextlib
import shutil
from typing import ClassVar

import mlx.core as mx
import numpy as np
import pytest

from mlx_voxcpm2 import load_model, vibevoice
from mlx_voxcpm2.layers import device
from mlx_voxcpm2.layers.compiled import FUSION, CompiledFunctions, fused
from mlx_voxcpm2.speech import kernel_build
from mlx_voxcpm2.speech.kernel_build import KernelBuild, KernelUse, list_name
from mlx_voxcpm2.speech.kernel_rehearsal import publish, rehearse, small_network
from mlx_voxcpm2.vibevoice import kernel_rehearsal as dialogue_rehearsal

pytestmark = pytest.mark.skipif(not device.on_cpu(), reason="kernels of a CPU")


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The temporary folder."""
    monkeypatch.setattr(kernel_build.tempfile, "tempdir", str(tmp_path))
    return tmp_path


class Process:
    """Stand-in for the process that compiles."""

    started: ClassVar[list] = []

    def __init__(self, command, stdin, env, **options):
        self.command, self.folder, self.status = command, env["TMPDIR"], None
        self.stdin = contextlib.nullcontext(open(f"{self.folder}/input", "wb"))
        Process.started.append(self)

    def poll(self):
        return self.status


@pytest.fixture
def processes(monkeypatch, temporary):
    monkeypatch.setattr(Process, "started", [])
    monkeypatch.setattr(kernel_build.subprocess, "Popen", Process)
    monkeypatch.setattr(kernel_build.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(kernel_build.atexit, "register", lambda *_: None)
    return Process.started


def test_postponed_functions_are_not_compiled(plain_kernels, monkeypatch):
    monkeypatch.setattr(mx, "compile", None)
    assert CompiledFunctions()("key", lambda x: x + 1, mx.array(1)).item() == 2


@pytest.mark.skipif(shutil.which("g++") is None, reason="MLX compiles nothing here")
def test_functions_are_compiled_once_kernels_are_used(plain_kernels):
    calls = []

    @fused
    def function(x):
        calls.append(x)
        return x * 2 + 1

    for _ in range(2):
        function(mx.array(1.0))
    FUSION.is_on = True
    for _ in range(3):
        function(mx.array(1.0))
    assert len(calls) == 3  # twice computed, once traced


@pytest.mark.slow
def test_speech_is_the_same_with_and_without_kernels(endless_model, monkeypatch):
    audio = []
    for is_on in (True, False):
        monkeypatch.setattr(FUSION, "is_on", is_on)
        [result] = endless_model.generate("Hello.", seed=1, max_tokens=3, retry_badcase=False)
        audio.append(np.array(result.audio))
    np.testing.assert_allclose(*audio, rtol=0, atol=1e-5 * np.abs(audio[0]).max())


def test_every_patch_that_is_generated_is_counted(endless_model, monkeypatch):
    counted = []
    monkeypatch.setattr(kernel_build.KERNELS, "count_patch", counted.append)
    list(endless_model.generate("Hello.", seed=1, max_tokens=3, retry_badcase=False))
    assert len(counted) == 3


def test_a_process_that_speaks_little_compiles_nothing(tiny_model, plain_kernels, processes):
    build = KernelBuild()
    for _ in range(kernel_build.PATCHES_BEFORE - 1):
        build.count_patch(tiny_model)
    assert not processes
    assert not FUSION.is_on


def test_a_process_that_goes_on_uses_kernels_when_all_are_compiled(
    tiny_model, plain_kernels, processes
):
    build = KernelBuild()
    for _ in range(2 * kernel_build.PATCHES_BEFORE):
        build.count_patch(tiny_model)
    [process] = processes
    assert process.command[1:] == ["-m", "mlx_voxcpm2.speech.kernel_rehearsal"]
    assert not FUSION.is_on
    process.status = 0
    build.count_patch(tiny_model)
    assert FUSION.is_on


def test_a_failed_compilation_leaves_the_speech_as_it_is(tiny_model, plain_kernels, processes):
    build = KernelBuild()
    for _ in range(kernel_build.PATCHES_BEFORE):
        build.count_patch(tiny_model)
    processes[0].status = 1
    build.count_patch(tiny_model)
    assert not FUSION.is_on
    assert len(processes) == 1


def test_where_kernels_round_otherwise_speech_never_uses_them(
    tiny_model, plain_kernels, processes, temporary, monkeypatch
):
    """Else a seed would give another take once they are compiled."""
    monkeypatch.setattr(FUSION, "is_exact", False)
    made = temporary / "made" / "mlx" / "cpu"
    made.mkdir(parents=True)
    (made / "libA.so").write_bytes(b"kernel")
    publish(temporary / "made", temporary, KernelUse.of(tiny_model).key)
    build = KernelBuild()
    for _ in range(2 * kernel_build.PATCHES_BEFORE):
        build.count_patch(tiny_model)
    assert not processes and not FUSION.is_on


@pytest.mark.parametrize("missing", ["g++", "room"])
def test_nothing_is_compiled_where_that_is_impossible(
    missing, tiny_model, plain_kernels, processes, monkeypatch
):
    def no_room(**_):
        raise OSError("no space left")

    if missing == "g++":
        monkeypatch.setattr(kernel_build.shutil, "which", lambda name: None)
    else:
        monkeypatch.setattr(kernel_build.tempfile, "mkdtemp", no_room)
    build = KernelBuild()
    for _ in range(kernel_build.PATCHES_BEFORE + 1):
        build.count_patch(tiny_model)
    assert not processes


def test_kernels_of_an_earlier_process_are_used_at_once(tiny_model, plain_kernels, temporary):
    made = temporary / "made" / "mlx" / "cpu"
    made.mkdir(parents=True)
    (made / "libA.so").write_bytes(b"kernel")
    key = KernelUse.of(tiny_model).key
    publish(temporary / "made", temporary, key)
    assert (temporary / "mlx/cpu/libA.so").read_bytes() == b"kernel"
    KernelBuild().count_patch(tiny_model)
    assert FUSION.is_on


def test_kernels_that_were_cleaned_away_are_not_counted_on(tiny_model, plain_kernels, temporary):
    file = temporary / list_name(KernelUse.of(tiny_model).key)
    file.parent.mkdir()
    file.write_text("mlx/cpu/libA.so\n")
    KernelBuild().count_patch(tiny_model)
    assert not FUSION.is_on


def test_every_frame_of_a_dialogue_is_counted(make_dialogue, monkeypatch):
    dialogue, counted = make_dialogue("tiny"), []
    monkeypatch.setattr(kernel_build.KERNELS, "count_patch", counted.append)
    steps = dialogue.steps(dialogue.notes["tiny"]["prompt"], dialogue.features(), "DDEX")
    assert len(steps) == 4
    assert counted == [dialogue.model] * 2


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_rehearsal_of_dialogues_speaks_as_the_model_does(
    dtype, make_dialogue, plain_kernels, processes, nothing_compiled
):
    folder, build = make_dialogue("wide").folder, KernelBuild()
    model = vibevoice.load(folder, dtype=dtype)
    for _ in range(kernel_build.PATCHES_BEFORE):
        build.count_patch(model)
    assert processes[0].command[1:] == ["-m", dialogue_rehearsal.__name__]
    use = KernelUse.of(model)
    again = KernelUse.of(dialogue_rehearsal.small_network(use))
    assert (again.activations, again.matrices) == (use.activations, use.matrices) == (dtype, dtype)
    dialogue_rehearsal.rehearse(use)


@pytest.mark.parametrize("recipe", [None, "4bit"])
def test_the_rehearsal_has_the_layers_and_types_of_the_model(recipe, exchange, nothing_compiled):
    use = KernelUse.of(load_model(exchange, quantize=recipe))
    again = KernelUse.of(small_network(use))
    assert (again.activations, again.quantization) == (use.activations, use.quantization)
    assert use.quantization is not None or again.matrices == use.matrices == "bfloat16"
    rehearse(use)
