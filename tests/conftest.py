"""Shared fixtures: tiny checkpoints with the official package's values, clips, voices, folders."""

import contextlib
import os

if "PYTEST_XDIST_WORKER" in os.environ:  # one process a core; what they start does the same
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # MLX hands each operation to a thread of its own, and where cores are few Linux would switch
    # to that thread for each of them: two thousand times a patch, which is a third of the time.
    if hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))

# Before MLX, so that it finds a fast BLAS on Linux.
from mlx_voxcpm2 import load_model  # isort: skip

import gc
import shutil
import signal
import sys
from pathlib import Path

import checkpoints
import mlx.core as mx
import numpy as np
import pytest
import soundfile
import vibevoice_checkpoints
from hub_stand_in import Hub
from hub_uploads import Storage
from mlx.utils import tree_flatten
from training_runs import write_data
from vibevoice_case import Dialogue
from voice_clips import RATE, speech

from mlx_voxcpm2 import activity
from mlx_voxcpm2.convert import convert
from mlx_voxcpm2.layers.compiled import FUSION
from mlx_voxcpm2.speech.kernel_build import KERNELS

activity.ANNOUNCED_AFTER = 3600  # a busy machine must not add lines to what is compared
KERNELS.count_patch = lambda model: None  # no compiler beside the tests, which speak for minutes

GOLDEN = Path(__file__).parent / "golden"
KERNELS_AT_FIRST = FUSION.is_on

# A shell has its background jobs ignore Ctrl-C, nohup a closed terminal, and what they start too.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def without_hints(text: str) -> str:
    """Standard error without what a machine without a fast BLAS, or a busy one, is told.

    A line that announces what takes long ends with an ellipsis.
    """
    return "".join(
        line
        for line in text.splitlines(keepends=True)
        if not line.startswith("MLX multiplies matrices") and not line.endswith(" …\n")
    )


def module_command(module: str, *arguments: object) -> list[str]:
    """Command line that runs a module of the package, such as "generate", in a new process."""
    return [sys.executable, "-m", f"mlx_voxcpm2.{module}", *map(str, arguments)]


def relative_error(ours, theirs) -> float:
    """Root mean square of the difference over that of `theirs`; shapes must be the same."""
    ours, theirs = np.array(ours, dtype=np.float64), np.array(theirs, dtype=np.float64)
    assert ours.shape == theirs.shape
    return float(np.sqrt(np.mean((ours - theirs) ** 2) / np.mean(theirs**2)))


class Case:
    """A variant: its checkpoint, its model in float32, and the official package's values."""

    def __init__(self, variant: str, folder: Path):
        self.variant = variant
        self.config = checkpoints.config(variant)
        self.folder = checkpoints.write_checkpoint(folder / variant, variant)
        self.golden = dict(mx.load(str(GOLDEN / f"{variant}.safetensors")))
        self.model = load_model(self.folder, dtype="float32")

    def given(self, name: str, *shape: int) -> mx.array:
        """Input from which the golden value of this name was made."""
        return mx.array(checkpoints.module_input(name, shape, self.variant))

    def waveform(self, name: str) -> tuple[np.ndarray, int]:
        return checkpoints.waveform(name, self.config)

    def arguments(self, mode: str) -> dict:
        """`generate`'s arguments for one of `checkpoints.MODES`."""
        wanted = checkpoints.MODES[mode]
        arguments = {
            key: wanted[key] for key in ("text", "instruct", "prompt_text") if key in wanted
        }
        for key, name in (("ref", "ref_audio"), ("prompt", "prompt_audio")):
            if key in wanted:
                arguments[name] = self.waveform(wanted[key])
        return arguments


@pytest.fixture(scope="session")
def make_case(tmp_path_factory):
    folder, made = tmp_path_factory.mktemp("checkpoints"), {}

    def make(variant: str) -> Case:
        if variant not in made:
            made[variant] = Case(variant, folder)
        return made[variant]

    return make


@pytest.fixture(params=list(checkpoints.VARIANTS))
def case(request, make_case) -> Case:
    """Each variant in turn."""
    return make_case(request.param)


@pytest.fixture(scope="session")
def released(make_case) -> Case:
    """The variant with the released model's structure."""
    return make_case("released")


@pytest.fixture(scope="session")
def make_dialogue(tmp_path_factory):
    folder, made = tmp_path_factory.mktemp("vibevoice"), {}

    def make(variant: str, layout: str = "microsoft") -> Dialogue:
        key = variant, layout
        if key not in made:
            made[key] = Dialogue(variant, folder, layout)
        return made[key]

    return make


@pytest.fixture(params=list(vibevoice_checkpoints.VARIANTS))
def dialogue(request, make_dialogue) -> Dialogue:
    """Each variant of VibeVoice in turn."""
    return make_dialogue(request.param)


def pytest_collection_finish() -> None:
    """Takes what was imported out of the collector's passes, of which tests cause thousands."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def as_in_a_new_process(monkeypatch):
    """Kernels as a new process has them, since commands switch them on for good.

    On Linux there are none at first: g++ needs a second for each.
    """
    monkeypatch.setattr(FUSION, "is_on", KERNELS_AT_FIRST)


@pytest.fixture
def kernels(monkeypatch):
    """Fused kernels, as in a process that has spoken for a while: for tests that count them."""
    monkeypatch.setattr(FUSION, "is_on", True)


@pytest.fixture
def nothing_compiled():
    """Functions run uncompiled, also where kernels are on: for tests that measure no speed."""
    mx.disable_compile()
    yield
    mx.enable_compile()


@pytest.fixture
def plain_kernels(monkeypatch):
    """No fused kernels, as in a new process on Linux: g++ needs a second for each."""
    monkeypatch.setattr(FUSION, "is_on", False)


@pytest.fixture
def dialogue_copy(make_dialogue, tmp_path) -> Path:
    """Copy of a small VibeVoice checkpoint in Microsoft's layout, to be changed."""
    return Path(shutil.copytree(make_dialogue("tiny").folder, tmp_path / "dialogue"))


@pytest.fixture
def tiny_model(released):
    """Float32 model of the released structure, shared by all tests."""
    return released.model


def with_stop_head(case: Case, which: str, monkeypatch):
    weight = mx.array(checkpoints.stop_head(which, case.config))
    monkeypatch.setitem(case.model.stop_head, "weight", weight)
    return case.model


@pytest.fixture
def endless_model(released, monkeypatch):
    """`tiny_model`, but never stopping by itself, so that lengths are known."""
    return with_stop_head(released, "never", monkeypatch)


@pytest.fixture
def brief_model(released, monkeypatch):
    """`tiny_model`, but stopping as soon as upstream allows, after four patches."""
    return with_stop_head(released, "always", monkeypatch)


@pytest.fixture(scope="session")
def exchange(tmp_path_factory) -> Path:
    """Checkpoint whose layers can all be quantised, in groups of 32 or 64."""
    return checkpoints.write_checkpoint(tmp_path_factory.mktemp("exchange") / "source", "exchange")


@pytest.fixture
def checkpoint_copy(make_case, tmp_path) -> Path:
    """Copy of a small checkpoint in upstream's layout, to be changed."""
    return Path(shutil.copytree(make_case("mup").folder, tmp_path / "checkpoint"))


@pytest.fixture(scope="session")
def converted_checkpoint(make_case, tmp_path_factory) -> Path:
    """Small checkpoint converted to bfloat16."""
    return convert(make_case("mup").folder, tmp_path_factory.mktemp("converted") / "bf16")


@pytest.fixture
def converted_copy(converted_checkpoint, tmp_path) -> Path:
    """Copy of the converted checkpoint, to be changed."""
    return Path(shutil.copytree(converted_checkpoint, tmp_path / "checkpoint"))


@pytest.fixture
def voice_clip(tmp_path) -> Path:
    """clip.wav: speech that is fit for a voice, of no whole number of patches."""
    soundfile.write(tmp_path / "clip.wav", speech(2.53), RATE)
    return tmp_path / "clip.wav"


@pytest.fixture
def reference_clip(released, tmp_path) -> Path:
    """clip.wav: the reference of the golden values."""
    return checkpoints.write_wav(tmp_path / "clip.wav", *released.waveform("ref"))


@pytest.fixture
def voice_folder(tmp_path, monkeypatch) -> Path:
    """Folder of saved voices, which does not exist yet."""
    folder = tmp_path / "data" / "voices"
    monkeypatch.setenv("MLX_VOXCPM2_VOICES", str(folder))
    return folder


@pytest.fixture(scope="session")
def anna_folder(released, tmp_path_factory) -> Path:
    """Folder with clip.wav and the voice made from it, voices/anna.safetensors."""
    folder = tmp_path_factory.mktemp("anna")
    clip = checkpoints.write_wav(folder / "clip.wav", *released.waveform("ref"))
    (folder / "voices").mkdir()
    released.model.make_voice(clip).save(folder / "voices" / "anna.safetensors")
    return folder


@pytest.fixture
def run_command(capfd):
    """Function that runs a command's `main`: its exit status, standard output and error."""

    def run(main, *arguments: object, **options: object) -> tuple[int, str, str]:
        capfd.readouterr()
        try:
            status = main([str(argument) for argument in arguments], **options)
        except SystemExit as end:
            status = end.code
        return (status, *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def training_data(tmp_path_factory) -> Path:
    """Manifest of five short clips, with train.yaml beside it."""
    return write_data(tmp_path_factory.mktemp("data"))


def parameters(model) -> dict[str, mx.array]:
    return dict(tree_flatten(model.parameters()))


def same(ours: dict[str, mx.array], theirs: dict[str, mx.array]) -> bool:
    """Whether both have the same tensors, in name, type and every bit."""
    return ours.keys() == theirs.keys() and all(
        ours[name].dtype == theirs[name].dtype and mx.array_equal(ours[name], theirs[name])
        for name in ours
    )


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Function that loads a case's model in float32 with its projections fused as on a GPU."""

    def load(case: Case):
        monkeypatch.setattr("mlx_voxcpm2.layers.kernels.fuses_gate_and_up", lambda: True)
        return load_model(case.folder, dtype="float32")

    return load


@pytest.fixture
def hub(tmp_path):
    """Stand-in for the hub that accepts uploads."""
    with Hub(storage=Storage(tmp_path / "storage")) as hub:
        yield hub


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """Empty working folder of one command, with the saved voices in it."""
    folder = tmp_path / "place"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLX_VOXCPM2_VOICES", str(folder / "voices"))
    return folder
