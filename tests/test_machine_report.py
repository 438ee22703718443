"""The report on a machine, by benchmarks/machine_report.py: goals, failing steps, files."""

import json
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import mlx.core as mx
import pytest

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))

import machine_goals
import machine_report
import machine_steps
import machine_tables
import random_checkpoint
from machine_steps import Bench, Step, StepError

from mlx_voxcpm2.models.voxcpm2.config import VoxCPM2Config
from mlx_voxcpm2.models.voxcpm2.family import FAMILY
from mlx_voxcpm2.weights.files import check_tensors


@pytest.mark.parametrize(
    ("target", "is_least", "value", "verdict"),
    [
        (3, True, 3.0, "reached"),
        (3, True, 2.4, "missed by 20 %"),
        (1.15, False, 1.15, "reached"),
        (1.15, False, 1.38, "missed by 20 %"),
        (0, False, 2, "missed by 2.00"),
        (3, True, None, "not measured"),
    ],
)
def test_a_goal_is_reached_or_missed_by_a_share(target, is_least, value, verdict):
    goal = machine_goals.Goal("a", "speed", lambda found: found, target, is_least)
    assert goal.judge(value) == verdict


def goals(step: str, found, precision: str | None = None) -> list[tuple[float | None, str]]:
    rows = machine_goals.evaluate(step, precision, found)
    return [(row["value"], row["verdict"]) for row in rows]


def speech(seconds: float, to_ours: float | None = None) -> dict:
    spread = {"median": seconds, "least": seconds, "most": seconds}
    ratios = {"median": to_ours, "least": to_ours, "most": to_ours}
    return {"seconds": spread} | ({"to_ours": ratios} if to_ours else {})


SPEED = {
    "weight_bytes": {"DiT solve": 600_000_000, "language models": 400_000_000},
    "bandwidth": 100.0,
    "engines": {"ours": {}, "mlx_audio": {}},
    "spoken": {
        "25": {"ours": speech(1.0), "mlx_audio": speech(5.0, 5.0)},
        "100": {"ours": speech(2.0), "mlx_audio": speech(7.0, 3.5)},
    },
    "first_sound": {"ours": speech(0.1), "mlx_audio": speech(7.0, 70.0)},
    "parts_ms": {"DiT solve": {"ours": 12.0, "mlx_audio": 40.0}},
}
LOADED = {
    "weight_bytes": 10**9,
    "load_seconds": 0.5,
    "loading": {"mlx": 1_050_000_000, "resident": 1_200_000_000},
    "speaking": {"mlx": 1_210_000_000, "resident": 1_300_000_000},
}
LOAD = {"is_cold": True, "file_bytes": 10**9, "first": LOADED, "again": LOADED}


def test_the_goals_of_each_step_are_taken_from_what_it_found():
    assert goals("speed", SPEED, "8bit") == [(3.5, "reached")]
    alone = SPEED | {"spoken": {"100": {"ours": speech(2.0)}}}
    assert goals("speed", alone) == [(None, "not measured")]
    rows = [{"batch": 1, "gain": [1, 1, 1]}, {"batch": 8, "gain": [3.0, 2.9, 3.1]}]
    assert goals("batch", rows) == [(3.0, "missed by 25 %")]
    assert goals("joins", {"ratios": [1.3, 1.1, 1.0]}) == [(1.1, "reached")]
    assert goals("load", LOAD, "bf16") == []
    assert goals("load", LOAD, "4bit") == [(1.05, "reached"), (1.21, "missed by 10 %")]


def test_a_patch_takes_longer_than_its_weights_are_read():
    assert machine_tables.bandwidth_share(SPEED, "100") == pytest.approx(0.5)
    assert "| 100 | mlx_voxcpm2 | 20.0 (20.0-20.0) |  | 50 % |" in machine_tables.speed(SPEED)


def test_plain_reads_stand_beside_the_seconds_of_loading():
    text = machine_tables.load(LOAD | {"read_again_seconds": 0.25})
    assert "| files in the cache | 0.50 | 0.25 | 1.05 | 1.20 | 1.21 | 1.30 |" in text
    assert "| files not in the system's cache | 0.50 | not measured |" in text
    assert "written by this program" in machine_tables.load(LOAD | {"is_cold": False})


@pytest.fixture
def report(tmp_path, monkeypatch):
    """Function that reports on some steps, replaced by the functions given: the status, the JSON
    and the Markdown."""

    def run(**measures) -> tuple[int, dict, str]:
        for name, measure in measures.items():
            by_precision = machine_steps.STEPS[name].is_by_precision
            monkeypatch.setitem(machine_steps.STEPS, name, Step(measure, by_precision))
        output = tmp_path / "report"
        arguments = ["--size", "tiny", "--output", str(output), "--precisions", "8bit", "4bit"]
        status = machine_report.main([*arguments, "--only", *measures])
        found = json.loads(output.with_name("report.json").read_text(encoding="utf-8"))
        return status, found, output.with_name("report.md").read_text(encoding="utf-8")

    return run


def failing(error: Exception):
    def measure(bench: Bench, precision: str | None) -> None:
        raise error

    return measure


def test_a_step_that_fails_leaves_the_others(report):
    home = str(Path.home())
    status, found, text = report(
        fidelity=lambda *_: {"design": {"error": 4e-5, "samples": 9, "expected": 9}},
        batch=failing(StepError(f"batch.py: status 1: no memory, {home}/x")),
        joins=failing(KeyError("ratios")),
        length=lambda *_: {"unexpected": 1},
        machine=lambda *_: {"mlx": "1", "device": {"name": "M9"}, "doctor": {"memory": "8 | 9"}},
    )
    assert status == 1
    errors = [(entry["step"], entry["precision"], entry["error"]) for entry in found["steps"]]
    assert errors[0] == ("machine", None, None)
    assert errors[1] == ("fidelity", None, None)
    assert errors[2:4] == [
        ("batch", p, "batch.py: status 1: no memory, ~/x") for p in ("8bit", "4bit")
    ]
    assert errors[4] == ("joins", None, "KeyError: 'ratios'")
    assert errors[5][0] == "length" and errors[5][2].startswith("TypeError")
    assert found["steps"][5]["found"] == {"unexpected": 1}
    assert "| largest error of a waveform |  | at most 2e-05 | 4.0e-05 | missed by 100 % |" in text
    assert (
        "| patches per second, batch 8 over batch 1 | 4bit | at least 4 |  | not measured |" in text
    )
    assert "- batch 8bit: batch.py: status 1: no memory, ~/x\n" in text
    assert "| design | 4.0e-05 | 9 | 9 |" in text and "| memory | 8 \\| 9 |" in text


def test_the_report_is_written_after_every_step(report, tmp_path):
    seen = []

    def measure(*_) -> dict:
        seen.append((tmp_path / "report.md").exists())
        return {"ratios": [1.0], "together": [1.0], "replaced": [1.0]}

    status, _, _ = report(fidelity=failing(StepError("x")), joins=measure)
    assert (status, seen) == (1, [True])
    assert report(joins=measure)[0] == 0


@pytest.fixture
def bench(tmp_path) -> Bench:
    return Bench(tmp_path, "tiny", None, 1, "bf16")


def test_a_program_that_fails_is_one_line(bench):
    code = "import sys; print('a', file=sys.stderr); sys.exit('the  last\\tline')"
    with pytest.raises(StepError, match=r"^[^\n]+: status 1: the last line$"):
        bench.start([sys.executable, "-c", code])
    with pytest.raises(StepError, match="No such file"):
        bench.start([bench.work_dir / "nothing"])

    def hang(command, **_):
        raise subprocess.TimeoutExpired(command, 1)

    bench.run = hang
    with pytest.raises(StepError, match=r"^speed\.py: no end after"):
        bench.start([sys.executable, "-m", "benchmarks/speed.py"])


def test_a_checkpoint_that_cannot_be_made_is_tried_once(bench):
    started = []

    def fail(command, **_) -> subprocess.CompletedProcess:
        started.append(command)
        return subprocess.CompletedProcess(command, 1, "", "disk full\n")

    bench.run = fail
    for _ in range(2):
        with pytest.raises(StepError, match=r"^no checkpoint: .*disk full"):
            machine_steps.batch(bench, "4bit")
    assert len(started) == 1


def test_failed_tests_are_named_with_the_first_line_of_their_error(tmp_path):
    file = tmp_path / "tests.xml"
    file.write_text(
        '<testsuites><testsuite tests="3" skipped="1"><testcase classname="tests.test_a" name="b">'
        '<failure message="assert 1 &lt; 0&#10;more"/></testcase><testcase name="c"/></testsuite>'
        "</testsuites>"
    )
    found = machine_steps.read_junit(file)
    assert found == {"tests": 3, "skipped": 1, "failed": {"tests.test_a::b": "assert 1 < 0"}}
    assert "- tests.test_a::b: assert 1 < 0" in machine_tables.tests(found)
    assert goals("tests", found) == [(1, "missed by 1")]


def test_every_test_file_that_is_chosen_exists():
    tests = Path(__file__).parent
    assert [n for n in machine_steps.TEST_FILES if not (tests / f"test_{n}.py").is_file()] == []
    assert set(machine_tables.SHOWN) == set(machine_steps.STEPS)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--rounds", "0"], "--rounds must be at least 1"),
        (["--output", "no/such/report"], "no/such is not a folder; create it first"),
        (["--work_dir", "nowhere"], "nowhere is not a folder; create it first"),
        (["--mlx_audio", "no-python"], "no-python is no program"),
        ([], "the checkpoints take 16.0 GB, 5.0 GB are free; give --work_dir"),
    ],
)
def test_bad_input_is_refused_before_anything_is_measured(arguments, line, monkeypatch, capsys):
    usage = namedtuple("usage", "free")(5 * 10**9)
    monkeypatch.setattr(machine_report.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(SystemExit) as ended:
        machine_report.main(arguments)
    assert ended.value.code == 2
    assert line in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("size", random_checkpoint.SIZES)
def test_a_random_checkpoint_has_the_tensors_of_its_size(size):
    settings = random_checkpoint.config(size)
    model = FAMILY.network(VoxCPM2Config.from_dict(settings))
    weights = random_checkpoint.tensors(settings, mx.bfloat16)
    check_tensors(model, FAMILY.sanitize(model, weights, False), Path(size))
    if size == "released":
        assert sum(value.nbytes for value in weights.values()) == pytest.approx(4.96e9, rel=0.01)
