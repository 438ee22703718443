"""A custom kernel is used where a trial on the machine found it right and faster, not elsewhere."""

import json
import logging
from dataclasses import dataclass, field

import mlx.core as mx
import pytest

from mlx_voxcpm2.commands import doctor
from mlx_voxcpm2.layers import device
from mlx_voxcpm2.layers.custom.kernel import CHOICES, CustomKernel
from mlx_voxcpm2.layers.custom.snake_conv import SnakeConv
from mlx_voxcpm2.trials import prove as proving
from mlx_voxcpm2.trials import verdicts
from mlx_voxcpm2.trials.trial import Trial


class Clock:
    """Seconds that pass only when kernels are evaluated."""

    def __init__(self):
        self.now, self.queue = 0.0, []

    def __call__(self) -> float:
        return self.now

    def evaluate(self, *trees: object) -> None:
        mx.eval(*trees)
        self.now += sum(self.queue)
        self.queue.clear()


CLOCK = Clock()


@dataclass(frozen=True)
class Doubling:
    """2 x, by a kernel that is as right and as fast as it is told to be."""

    seconds: float = 0.5
    """Time by the kernel; the plain graph takes 1 s, and a slower variant more."""
    error: float = 0.0
    fault: str = ""
    lacks_memory: bool = False
    dtype: mx.Dtype = mx.bfloat16
    tried: list = field(default_factory=list, compare=False, repr=False)
    kernel = CustomKernel("doubling", ("x",), ("y",), "y[0] = 2 * x[0];")
    variants = ((("WARPS", 4),), (("WARPS", 8),))

    def example(self) -> list[mx.array]:
        if self.lacks_memory:
            raise MemoryError
        return [mx.random.normal((4, 8), key=mx.random.key(1)).astype(self.dtype)]

    def plain(self, x: mx.array) -> list[mx.array]:
        CLOCK.queue.append(1.0)
        return [2 * x]

    def custom(self, variant, x: mx.array) -> list[mx.array]:
        self.tried.append(variant)
        if self.fault:
            raise RuntimeError(self.fault)
        CLOCK.queue.append(self.seconds if variant == self.variants[1] else 2 * self.seconds)
        return [2 * x + self.error]


@pytest.fixture(autouse=True)
def gpu(monkeypatch, tmp_path):
    """As on a GPU, with a cache folder of its own."""
    monkeypatch.setattr(device, "on_cpu", lambda: False)
    monkeypatch.setattr(verdicts, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.delenv(proving.SWITCH, raising=False)
    monkeypatch.setattr(CHOICES, "variants", {})


@pytest.fixture
def load(monkeypatch):
    """Proves kernels for operations as loading a model does; returns the variants in use."""

    def load(*operations):
        CHOICES.variants.clear()
        monkeypatch.setattr(proving, "operations_of", lambda model: set(operations))
        proving.prove(None, Trial(CLOCK, CLOCK.evaluate))
        return dict(CHOICES.variants)

    return load


def test_a_right_and_fast_kernel_is_used_in_its_fastest_variant(load):
    operation = Doubling()
    assert load(operation) == {operation: (("WARPS", 8),)}
    assert operation.variants[0] in operation.tried
    assert verdicts.Verdicts().find(operation).ratio == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize(
    "operation",
    [
        Doubling(error=0.1),
        Doubling(error=0.1, dtype=mx.float32),
        Doubling(error=float("nan")),
        Doubling(seconds=0.99),
        Doubling(seconds=1.5),
        Doubling(fault="no such function\nin line 3"),
        Doubling(lacks_memory=True),
    ],
)
def test_a_wrong_slow_or_failing_kernel_is_not_used(load, operation):
    assert load(operation) == {}


def test_one_that_rounds_as_the_plain_graph_does_is_right(load):
    assert load(Doubling(error=1e-7)) and load(Doubling(error=1e-7, dtype=mx.float32))
    assert not load(Doubling(error=1e-4, dtype=mx.float32))


def test_a_fault_is_one_line_for_each_kernel(load, caplog):
    caplog.set_level(logging.INFO, "mlx_voxcpm2")
    good = Doubling(seconds=0.1)
    assert set(load(good, Doubling(fault="no GPU\n  today"), Doubling(error=1))) == {good}
    lines = [line for line in caplog.messages if "doubling" in line]
    assert len(lines) == 1 and "\n" not in lines[0]
    assert "no GPU today" in lines[0] or "differs" in lines[0]


def test_a_second_load_reads_the_verdicts_of_the_first(load):
    operations = Doubling(), Doubling(seconds=2), Doubling(fault="no")
    first = load(*operations)
    for each in operations:
        each.tried.clear()
    assert load(*operations) == first
    assert all(each.tried == [] for each in operations)


@pytest.mark.parametrize("change", ["MLX", "device", "source"])
def test_another_version_device_or_source_is_tried_again(load, monkeypatch, change):
    operation = Doubling()
    load(operation)
    operation.tried.clear()
    if change == "MLX":
        monkeypatch.setattr(mx, "__version__", "99.0")
    elif change == "device":
        monkeypatch.setattr(mx, "device_info", lambda: {"device_name": "Apple M9"})
    else:
        other = CustomKernel("doubling", ("x",), ("y",), "y[0] = x[0] + x[0];")
        monkeypatch.setattr(Doubling, "kernel", other)
    assert load(operation) and operation.tried
    monkeypatch.undo()


@pytest.mark.parametrize("how", ["switch", "CPU"])
def test_no_kernel_is_tried_or_used_without_a_gpu_or_once_switched_off(load, monkeypatch, how):
    operation = Doubling()
    load(operation)
    operation.tried.clear()
    if how == "switch":
        monkeypatch.setenv(proving.SWITCH, "0")
    else:
        monkeypatch.setattr(device, "on_cpu", lambda: True)
    assert load(operation) == {} and operation.tried == []


DAMAGED = [
    b"",
    b"\xff",
    b"[]",
    b'{"version": 1}',
    b'{"version": 1, "machines": 3}',
    b'{"version": 1, "machines": {"a": 3}}',
    b'{"version": 0, "machines": {}}',
    b"{" * 100_000,
]


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_file_costs_trials_and_is_replaced(load, content):
    file = verdicts.verdict_file()
    file.parent.mkdir()
    file.write_bytes(content)
    operation = Doubling()
    assert load(operation)
    assert json.loads(file.read_text())["version"] == 1


@pytest.mark.parametrize(
    "entry",
    [
        None,
        [],
        {"variant": 3, "ratio": 1, "fault": ""},
        {"variant": {"WARPS": 5}, "ratio": 0.5, "fault": ""},
        {"variant": {"WARPS": 8}, "ratio": "x", "fault": ""},
        {"variant": {"WARPS": [8]}, "ratio": 0.5, "fault": ""},
        {"variant": {"WARPS": 8}},
    ],
)
def test_a_damaged_verdict_is_tried_again(load, entry):
    operation = Doubling()
    load(operation)
    file = verdicts.verdict_file()
    content = json.loads(file.read_text())
    [found] = content["machines"].values()
    [key] = found
    found[key] = entry
    file.write_text(json.dumps(content))
    operation.tried.clear()
    assert load(operation) and operation.tried
    verdicts.summary()


def test_a_cache_that_cannot_be_written_costs_trials_only(load, tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.touch()
    operation = Doubling()
    monkeypatch.setattr(verdicts, "cache_folder", lambda: file / "cache")
    assert load(operation)

    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(verdicts, "cache_folder", no_home)
    assert load(operation)


def test_two_processes_at_once_keep_both_verdicts():
    one, other = verdicts.Verdicts(), verdicts.Verdicts()
    for owner, operation in ((one, Doubling(seconds=0.1)), (other, Doubling(seconds=0.2))):
        owner.add(operation, Trial(CLOCK, CLOCK.evaluate).verdict(operation))
    one.save()
    other.save()
    found = verdicts.Verdicts()
    assert found.find(Doubling(seconds=0.1)) and found.find(Doubling(seconds=0.2))


def test_the_doctor_shows_the_verdicts(load, monkeypatch):
    assert [each.value for each in doctor._kernels()] == [
        "not tried yet: loading a model of 16 bits does"
    ]
    load(Doubling(), Doubling(seconds=2), Doubling(fault="no such function"))
    [found] = doctor._kernels()
    assert found.name == "kernel doubling"
    assert found.value == (
        "used for 1 of 3 shapes, in 0.50 to 0.50 of the plain graph's time; 1 not faster; "
        "1 failed: no such function"
    )
    monkeypatch.setenv(proving.SWITCH, "0")
    assert "switched off" in next(doctor._kernels()).value
    monkeypatch.setattr(device, "on_cpu", lambda: True)
    assert next(doctor._kernels()).value == "none for a CPU"


def test_a_model_s_operations_are_noted_without_computing(released, monkeypatch):
    monkeypatch.setattr(mx, "eval", None)
    found = proving.operations_of(released.model)
    snakes = [each for each in found if isinstance(each, SnakeConv)]
    assert {each.batch for each in snakes} == {1, 2, 4, 8, 16}
    assert {each.dilation for each in snakes} == {1, 3, 9}
    assert CHOICES.noted is None
    # Traces of the graph without kernels are gone.
    assert released.model.audio_vae.compiled._functions == {}
