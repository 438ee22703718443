"""The commands `doctor` and `benchmark`: what they say about a machine, a model and its speed."""

import json
import math
import os

import pytest

from mlx_voxcpm2.cli import main
from mlx_voxcpm2.commands import benchmark, doctor, machine
from mlx_voxcpm2.convert import convert
from mlx_voxcpm2.layers import blas, device


@pytest.fixture(scope="module")
def report() -> dict[str, doctor.Finding]:
    """Findings on this machine, by name."""
    return {each.name: each for each in doctor.diagnose("nobody/nothing")}


def test_the_report_names_versions_machine_and_speed(report):
    assert f"mlx {machine.library_versions()['mlx']}" in report["libraries"].value
    assert report["MLX computes on"].value == ("CPU" if device.on_cpu() else "GPU")
    assert "real-time factor" in report["self-test"].value
    assert "3.0 s of speech" in report["self-test"].value
    assert not any(each.is_fault for each in report.values())


def test_a_model_that_is_not_here_is_said_to_be_downloaded(report):
    assert report["model"].value == "nobody/nothing, not here"
    assert "--model english" in report["model"].advice
    [found] = doctor._model("demo")
    assert found.advice is None


def test_a_slow_blas_a_missing_compiler_and_a_small_memory_have_advice(monkeypatch):
    monkeypatch.setattr(device, "has_slow_blas", lambda: True)
    monkeypatch.setattr(blas, "FAST_BLAS", None)
    monkeypatch.setattr(machine, "memory_bytes", lambda: 4 * 10**9)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    monkeypatch.setattr(device, "on_cpu", lambda: True)
    found = {each.name: each for each in doctor._device()}
    assert "apt install libopenblas0-pthread" in found["BLAS"].advice
    assert found["memory"].value == "4.0 GB" and "4bit" in found["memory"].advice
    if "compiler" in found:
        assert "g++" in found["compiler"].advice


def test_extras_that_lack_a_package_are_named(monkeypatch):
    installed = machine._is_installed
    monkeypatch.setattr(
        machine, "_is_installed", lambda each: each.name != "matplotlib" and installed(each)
    )
    assert machine.missing_by_extra()["train"] == ["matplotlib"]
    found = {each.name: each for each in doctor._extras()}
    assert "train" in found["not installed"].value
    assert "train: fine-tuning" in found["not installed"].advice


def test_folders_that_cannot_be_written_are_named(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("MLX_VOXCPM2_VOICES", str(file / "voices"))
    voices = {each.name: each for each in doctor._folders()}["voices"]
    assert voices.value.endswith("can't be written") and "MLX_VOXCPM2_VOICES" in voices.advice
    monkeypatch.setenv("MLX_VOXCPM2_VOICES", str(tmp_path / "new" / "voices"))
    voices = {each.name: each for each in doctor._folders()}["voices"]
    assert "not made yet" in voices.value and voices.advice is None
    assert not (tmp_path / "new").exists()


def test_without_a_home_the_rest_is_reported(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("mlx_voxcpm2.voices.folder.voices_folder", no_home)
    found = {each.name: each for each in doctor._folders()}
    assert found["voices"].value.startswith("unknown (") and "temporary files" in found


def test_a_failed_self_test_is_a_fault_and_status_1(monkeypatch, run_command):
    def broken(name):
        raise ValueError("the demo\nis broken")

    monkeypatch.setattr("mlx_voxcpm2.load.load_model", broken)
    status, out, _ = run_command(main, "doctor", "--json")
    last = json.loads(out)[-1]
    assert status == 1
    assert last["is_fault"] and last["value"] == "failed: ValueError: the demo is broken"


def test_the_report_is_one_screen(monkeypatch, run_command):
    monkeypatch.setattr(
        doctor, "_self_test", lambda: iter([doctor.Finding("self-test", "x " * 90)])
    )
    status, out, _ = run_command(main, "doctor")
    assert status == 0
    # A path may be longer than a line.
    assert all(len(line) <= 80 or os.sep in line for line in out.splitlines())
    assert len(out.splitlines()) <= 40


@pytest.fixture
def in_folder(tmp_path, monkeypatch, nothing_compiled):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_benchmark_prints_a_table_and_writes_numbers_and_a_plot(
    exchange, in_folder, run_command
):
    flags = "--patches 3 --rounds 1 --batch_sizes 1 2 --plot speed.svg --precisions".split()
    status, out, _ = run_command(main, "benchmark", "--model", exchange, *flags, "as is", "4bit")
    assert status == 0
    found = json.loads((in_folder / "benchmark.json").read_text())["measures"]
    assert [(each["precision"], each["texts"]) for each in found] == [
        ("as is", 1),
        ("as is", 2),
        ("4bit", 1),
        ("4bit", 2),
    ]
    assert found[2]["weight_bytes"] < found[0]["weight_bytes"]
    patch_ms = {
        round(each["real_time_factor"] * each["patch_ms"] / each["texts"], 6) for each in found
    }
    config = json.loads((exchange / "config.json").read_text())
    vae = config["audio_vae_config"]
    samples = config["patch_size"] * math.prod(vae["decoder_rates"])
    assert patch_ms == {round(1000 * samples / vae["out_sample_rate"], 6)}
    table = [line for line in out.splitlines() if line.startswith("|")]
    assert len(table) == 6 and len({line.count("|") for line in table}) == 1
    assert (in_folder / "speed.svg").read_text().count("4bit")


def test_a_quantised_model_is_measured_as_it_is_only(exchange, in_folder, run_command, caplog):
    converted = convert(exchange, in_folder / "converted", quantize="8bit")
    flags = "--patches 3 --rounds 1 --batch_sizes 1 --precisions".split()
    status, out, _ = run_command(main, "benchmark", "--model", converted, *flags, "as is", "4bit")
    assert status == 0 and out.count("| as is | 1 |") == 1 and "| 4bit" not in out
    assert "4bit: not measured" in caplog.text


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--precisions", "3bits"], "3bits"),
        (["--rounds", "0"], "--rounds"),
        (["--json", "no/where.json"], "/no'; create it first"),
    ],
)
def test_what_cannot_be_measured_is_one_line(flags, words, in_folder, run_command):
    status, out, err = run_command(main, "benchmark", "--model", "demo", *flags)
    assert (status, out, err.count("\n")) == (2, "", 1) and words in err


def test_without_matplotlib_only_the_plot_is_missing(exchange, in_folder, run_command, monkeypatch):
    monkeypatch.setattr(benchmark, "find_spec", lambda name: None)
    flags = ["--model", exchange, "--patches", "2", "--rounds", "1", "--precisions", "as is"]
    status, _, err = run_command(main, "benchmark", *flags, "--batch_sizes", "1")
    assert status == 0 and "mlx-voxcpm2[benchmark]" in err
    assert not (in_folder / "benchmark.png").exists()
    status, _, err = run_command(main, "benchmark", *flags, "--plot", "x.png")
    assert status == 2 and "mlx-voxcpm2[benchmark]" in err
