"""A custom kernel is used where a trial on the machine found it right and faster, not elsewhere."""

import json
import logging
import sys
from dataclasses import dataclass, field

import mlx.core as mx
import pytest

from mlx_voxcpm2.commands import doctor
from mlx_voxcpm2.layers import device, kernels
from mlx_voxcpm2.layers.compiled import FUSION
from mlx_voxcpm2.layers.custom.kernel import CHOICES, CustomKernel
from mlx_voxcpm2.layers.custom.snake_conv import SnakeConv
from mlx_voxcpm2.trials import prove as proving
from mlx_voxcpm2.trials import verdicts
from mlx_voxcpm2.trials.trial import Trial, is_as_exact


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
    plain_factor: float = 2.0
    fails_only: object = None
    """The variant that has the fault, None for all."""
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
        return [self.plain_factor * x]

    def custom(self, variant, x: mx.array) -> list[mx.array]:
        self.tried.append(variant)
        if self.fault and self.fails_only in (None, variant):
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
    monkeypatch.setattr(verdicts, "_of_this_process", {})


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
        Doubling(plain_factor=float("nan")),
    ],
)
def test_a_wrong_slow_or_failing_kernel_is_not_used(load, operation):
    assert load(operation) == {}


def test_a_variant_that_fails_leaves_the_others(load):
    operation = Doubling(fault="too many threads", fails_only=(("WARPS", 4),))
    assert load(operation) == {operation: (("WARPS", 8),)}


def test_a_single_number_that_is_wrong_is_enough():
    truth = mx.random.normal((10_000,), key=mx.random.key(0))
    plain = truth.astype(mx.bfloat16)
    assert is_as_exact(plain, plain, truth)
    spoilt = mx.where(mx.arange(10_000) == 9_999, plain + 0.1, plain)
    assert not is_as_exact(spoilt, plain, truth)


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
    tried = [variant for each in operations for variant in each.tried]
    assert tried == list(first.values()), "of what is used, whether it still runs"


def test_a_kernel_that_no_longer_runs_is_not_used(load, monkeypatch):
    """After an update of the system, or in an environment without CUDA's headers."""
    operation = Doubling()
    assert load(operation)

    def refuse(self, variant, x):
        raise RuntimeError(REFUSALS[0])

    monkeypatch.setattr(Doubling, "custom", refuse)
    assert load(operation) == {}
    assert "no such function" in verdicts.Verdicts().find(operation).fault


REFUSALS = (
    "[metal::Device] Unable to build metal library from source\nline 3: no such function",
    "Failed to compile kernel: line 3: no such function",
    "Thread group size (512) is greater than  the maximum allowed threads per threadgroup (448).",
)
NO_HEADER = 'Failed to compile kernel: catastrophic error: cannot open source file "crt/mma.h"'


@pytest.mark.parametrize(
    ("operation", "is_stored"),
    [
        (Doubling(error=0.1), True),
        (Doubling(seconds=2), True),
        *((Doubling(fault=each), True) for each in REFUSALS),
        (Doubling(fault=NO_HEADER), False),
        (Doubling(fault="[METAL] Command buffer execution failed: Insufficient Memory"), False),
        (Doubling(seconds=2, fault="driver", fails_only=(("WARPS", 4),)), False),
        (Doubling(seconds=0.5, fault="driver", fails_only=(("WARPS", 4),)), True),
        (Doubling(lacks_memory=True), False),
        (Doubling(plain_factor=float("nan")), False),
    ],
)
def test_only_what_would_happen_again_is_kept_for_the_next_process(load, operation, is_stored):
    first = load(operation)
    assert verdicts.Verdicts().find(operation)  # in this process all are
    operation.tried.clear()
    assert load(operation) == first and operation.tried == list(first.values())
    verdicts._of_this_process.clear()  # as in a new process
    assert (verdicts.Verdicts().find(operation) is not None) == is_stored


@pytest.mark.parametrize("mlx", ["0.1", mx.__version__])
def test_verdicts_on_older_sources_go_when_new_ones_are_written(load, mlx):
    device, entry = verdicts.device_name(), {"variant": None, "ratio": 2.0, "fault": ""}
    old = {"doubling 0123456789ab old": entry, "other 0123456789ab old": entry}
    machines = {f"{device}, MLX {mlx}": old, "Apple M9, MLX 0.1": old}
    file = verdicts.verdict_file()
    file.parent.mkdir()
    file.write_text(json.dumps({"version": 2, "machines": machines}))
    load(Doubling())
    found = json.loads(file.read_text())["machines"]
    assert found["Apple M9, MLX 0.1"] == old
    assert "other 0123456789ab old" in found[f"{device}, MLX {mlx}"]
    assert "doubling 0123456789ab old" not in found[f"{device}, MLX {mlx}"]
    assert verdicts.Verdicts().find(Doubling())


@pytest.mark.parametrize("change", ["MLX", "device", "source", "launch", "plain graph"])
def test_another_version_device_or_source_is_tried_again(load, monkeypatch, change):
    operation = Doubling()
    load(operation)
    operation.tried.clear()
    if change == "MLX":
        monkeypatch.setattr(mx, "__version__", "99.0")
    elif change == "device":
        monkeypatch.setattr(mx, "device_info", lambda: {"device_name": "Apple M9"})
    elif change != "source":
        changed = sys.modules[__name__] if change == "launch" else kernels
        text = verdicts._module_source
        monkeypatch.setattr(verdicts, "_module_source", lambda each: text(each) * (each != changed))
    else:
        other = CustomKernel("doubling", ("x",), ("y",), "y[0] = x[0] + x[0];")
        monkeypatch.setattr(Doubling, "kernel", other)
    assert load(operation) and operation.tried
    monkeypatch.undo()


def test_what_fails_before_a_trial_does_not_keep_a_model_from_loading(monkeypatch, caplog):
    caplog.set_level(logging.INFO, "mlx_voxcpm2")

    def fail(model):
        raise RuntimeError("no graph\nof this")

    monkeypatch.setattr(proving, "operations_of", fail)
    proving.prove(None, Trial(CLOCK, CLOCK.evaluate))
    assert caplog.messages == ["custom kernels could not be tried: no graph of this"]
    assert CHOICES.variants == {}


def test_a_patch_that_cannot_be_built_leaves_no_traces(released, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError

    monkeypatch.setattr(FUSION, "is_on", True)
    monkeypatch.setattr(released.model.audio_vae, "decode", fail)
    with pytest.raises(RuntimeError):
        proving.operations_of(released.model)
    assert CHOICES.noted is None
    assert released.model.feat_decoder.compiled._functions == {}


def test_a_model_on_the_cpu_leaves_the_kernels_of_one_on_the_gpu(load, monkeypatch):
    used = load(Doubling())
    monkeypatch.setattr(device, "on_cpu", lambda: True)
    proving.prove(None)
    assert used == CHOICES.variants != {}


@pytest.mark.parametrize("value", ["0", "off", "OFF", "no", "False", " 0 "])
def test_the_switch_takes_the_usual_words(monkeypatch, value):
    monkeypatch.setenv(proving.SWITCH, value)
    assert proving.are_switched_off()
    for other in ("1", "", "on"):
        monkeypatch.setenv(proving.SWITCH, other)
        assert not proving.are_switched_off()


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
    b'{"version": 2}',
    b'{"version": 2, "machines": 3}',
    b'{"version": 2, "machines": {"a": 3}}',
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
    assert json.loads(file.read_text())["version"] == 2


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
        {"variant": None, "ratio": "x", "fault": ""},
        {"variant": None, "ratio": 1, "fault": None},
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
    assert [len(each) for each in verdicts.summary().values()] == [1]


def test_the_doctor_survives_a_damaged_verdict(load):
    load(Doubling(seconds=0.1))
    file = verdicts.verdict_file()
    file.write_text(file.read_text().replace('"ratio": 0.', '"ratio": "x", "rest": 0.'))
    assert '"x"' in file.read_text()
    assert "not tried yet" in next(doctor._kernels()).value


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
    load(Doubling(), Doubling(seconds=2), Doubling(fault=REFUSALS[1]))
    [found] = doctor._kernels()
    assert found.name == "kernel doubling"
    assert found.value == (
        "used for 1 of 3 shapes, in 0.50 to 0.50 of the plain graph's time; 1 not faster; "
        "1 failed: Failed to compile kernel: line 3: no such function"
    )
    monkeypatch.setenv(proving.SWITCH, "0")
    assert "switched off" in next(doctor._kernels()).value
    monkeypatch.setattr(device, "on_cpu", lambda: True)
    assert next(doctor._kernels()).value == "none for a CPU"


def test_a_model_s_operations_are_noted_without_computing(released, monkeypatch):
    monkeypatch.setattr(mx, "eval", None)
    monkeypatch.setattr(FUSION, "is_on", True)  # as on a GPU, where graphs are traced
    found = proving.operations_of(released.model)
    snakes = [each for each in found if isinstance(each, SnakeConv)]
    assert {each.batch for each in snakes} == {1, 2, 4, 8, 16}
    assert {each.dilation for each in snakes} == {1, 3, 9}
    assert CHOICES.noted is None
    # Traces of the graph without kernels are gone.
    assert released.model.audio_vae.compiled._functions == {}
