"""Tiny checkpoints with upstream's structure, and what the official package makes of them."""

# Before MLX, so that it finds a fast BLAS on Linux.
from mlx_voxcpm2 import load_model  # isort: skip

import signal
from pathlib import Path

import checkpoints
import mlx.core as mx
import numpy as np
import pytest
from hub_stand_in import Hub
from hub_uploads import Storage
from mlx.utils import tree_flatten

GOLDEN = Path(__file__).parent / "golden"

# A shell has its background jobs ignore Ctrl-C, nohup a closed terminal, and what they start too.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def relative_error(ours, theirs) -> float:
    """Root mean square of the difference over that of `theirs`; shapes must be the same."""
    ours, theirs = np.array(ours, dtype=np.float64), np.array(theirs, dtype=np.float64)
    assert ours.shape == theirs.shape
    return float(np.sqrt(np.mean((ours - theirs) ** 2) / np.mean(theirs**2)))


class Case:
    """One variant: its checkpoint, its model in float32, and the official package's values."""

    def __init__(self, variant: str, folder: Path):
        self.variant = variant
        self.config = checkpoints.config(variant)
        self.folder = checkpoints.write_checkpoint(folder / variant, variant)
        self.golden = dict(mx.load(str(GOLDEN / f"{variant}.safetensors")))
        self.model = load_model(self.folder, dtype="float32")

    def given(self, name: str, *shape: int) -> mx.array:
        """The input that the golden value of this name was made from."""
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


@pytest.fixture
def released(make_case) -> Case:
    return make_case("released")


@pytest.fixture(scope="session")
def exchange(tmp_path_factory) -> Path:
    """A checkpoint whose layers can all be quantised, in groups of 32."""
    return checkpoints.write_checkpoint(tmp_path_factory.mktemp("exchange") / "source", "exchange")


def parameters(model) -> dict[str, mx.array]:
    return dict(tree_flatten(model.parameters()))


def same(ours: dict[str, mx.array], theirs: dict[str, mx.array]) -> bool:
    """Whether they are the same tensors, in name, type and every bit."""
    return ours.keys() == theirs.keys() and all(
        ours[name].dtype == theirs[name].dtype and mx.array_equal(ours[name], theirs[name])
        for name in ours
    )


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """A case's model in float32, its projections fused as on a GPU."""

    def load(case: Case):
        monkeypatch.setattr("mlx_voxcpm2.layers.kernels.fuses_gate_and_up", lambda: True)
        return load_model(case.folder, dtype="float32")

    return load


@pytest.fixture
def hub(tmp_path):
    """A stand-in for the hub that takes uploads."""
    with Hub(storage=Storage(tmp_path / "storage")) as hub:
        yield hub
