"""`python -m mlx_voxcpm2.convert`: its flags and its error lines."""

import fcntl
import inspect
import json
import os
import pty
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import mlx.core as mx
import pytest
from conftest import GOLDEN, parameters, same
from hub_client import hub_client
from hub_stand_in import Cut, Hub

from mlx_voxcpm2 import load_model
from mlx_voxcpm2.convert import __main__ as command
from mlx_voxcpm2.convert import convert
from mlx_voxcpm2.weights.quantization import Quantization


@pytest.fixture
def run_convert(exchange, tmp_path, monkeypatch, run_command):
    """Function that runs the command in an empty folder: its exit status and standard error."""
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)

    def run(*arguments: str, source: Path | str = exchange) -> tuple[int, str]:
        status, out, err = run_command(command.main, "--hf_path", source, *arguments)
        assert out == ""
        return status, err

    return run


SETTINGS = {
    "-q": Quantization(4),
    "--quantize --q_bits 8": Quantization(8),
    "--quantize --q-bits 3 --q-group-size 32": Quantization(3, 32),
    "-q --q_mode mxfp8": Quantization(mode="mxfp8"),
    "--quantize --q-mode nvfp4 --q_group_size 16": Quantization(mode="nvfp4"),
    "--recipe 4bit-dit8": "4bit-dit8",
    "--quant-predicate 8bit": "8bit",
    "-q --recipe 8bit --q_group_size 32": Quantization(8, 32),
}


@pytest.mark.parametrize("flags", SETTINGS)
def test_flags_choose_the_quantisation(run_convert, exchange, flags):
    assert run_convert("--mlx-path", "new", *flags.split())[0] == 0
    assert same(
        parameters(load_model("./new")), parameters(load_model(exchange, quantize=SETTINGS[flags]))
    )


def stored_type(folder: str) -> str:
    return json.loads((Path(folder) / "config.json").read_text())["dtype"]


def test_flags_choose_the_dtype_layout_and_target(run_convert, exchange):
    before = signal.getsignal(signal.SIGTERM)
    status, err = run_convert("--dtype", "float16", "--layout", "mlx-voxcpm2")
    assert signal.getsignal(signal.SIGTERM) == before
    assert status == 0 and "mlx_model: 0.00 GB" in err
    assert stored_type("mlx_model") == "float16"
    assert "audio_vae.encoder.block.0.weight" in mx.load("mlx_model/model.safetensors")
    assert run_convert("--recipe", "4bit")[0] == 2
    assert stored_type("mlx_model") == "float16"
    assert run_convert("--recipe", "4bit", "--overwrite")[0] == 0
    assert stored_type("mlx_model") == "bfloat16"
    assert command.main(["--model", str(exchange), "--mlx_path", "b", "--recipe", "bf16"]) == 0
    assert stored_type("b") == "bfloat16"


def quantised(folder: Path) -> None:
    shutil.copy(GOLDEN / "mlx_audio_4bit.safetensors", folder / "model.safetensors")
    shutil.copy(GOLDEN / "mlx_audio_4bit.json", folder / "config.json")


def no_object(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization": 4}))


def first_generation(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architecture": "voxcpm"}))


def no_checkpoint(folder: Path) -> None:
    (folder / "config.json").unlink()


def another_model(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))


# Words of the error line: the flags, and a change of the source.
WRONG = {
    "recipe is '5bit'; it must be one of bf16, 8bit, 8bit-dit16, 6bit": ("--recipe 5bit", None),
    "number of bits 7 is not supported. The supported bits are": ("-q --q_bits 7", None),
    "group size 48 is not supported. The supported group sizes": ("-q --q_group_size 48", None),
    "group size 128 does not divide the 64 inputs of": ("-q --q_group_size 128", None),
    "mode is 'int4'; it must be one of affine, mxfp4": ("-q --q_mode int4", None),
    "mxfp4 quantization requires group size 32": ("-q --q_mode mxfp4 --q_group_size 64", None),
    "--q_bits: invalid int value: 'four'": ("-q --q_bits four", None),
    "--q_bits says how to quantise; give --quantize too": ("--q_bits 4", None),
    "recipe 4bit says it; leave --q_bits out": ("--recipe 4bit --q_bits 8", None),
    "recipe bf16 quantises nothing; leave --quantize out": ("-q --recipe bf16", None),
    "'bf16' is bfloat16; leave out": ("--recipe bf16 --dtype float32", None),
    "dtype is 'int8'; it must be": ("--dtype int8", None),
    "layout is 'gguf'; it must be 'mlx-audio' or 'mlx-voxcpm2'": ("--layout gguf", None),
    "there is no flag --q_bit; did you mean --q_bits?": ("-q --q_bit 4", None),
    "source is quantised already; take the original": ("--recipe 4bit", quantised),
    "--quantize and --dequantize are both given": ("-q -d", quantised),
    "is not quantised; leave --dequantize out": ("--dequantize", None),
    "quantization must be an object, not 4; convert the model again": ("", no_object),
    "--recipe is empty; give it a value": ("--recipe=", None),
    "--q_mode is empty": ("-q --q-mode=", None),
    "--mlx_path is empty": ("--mlx_path=", None),
    "--q_bits: invalid int value: '3.5'": ("-q --q-bits 3.5", None),
    "q_bits is 0; it must be a whole number": ("-q --q_bits 0", None),
    "group size 7 is not supported": ("-q --q-group-size 7", None),
    "this is a VoxCPM 1.x checkpoint": ("", first_generation),
    "no config.json here; give the folder of a VoxCPM2 checkpoint": ("", no_checkpoint),
    "architecture is 'llama'": ("", another_model),
    "is a folder and has no revision 'v2'": ("--revision v2", None),
}


@pytest.mark.parametrize("line", WRONG)
def test_bad_flags_and_sources_are_one_line_errors(run_convert, exchange, tmp_path, line):
    flags, change = WRONG[line]
    source = shutil.copytree(exchange, tmp_path / "source")
    if change:
        change(source)
    status, err = run_convert("--mlx_path", "new", *flags.split(), source=source)
    assert status == 2 and line in err
    assert err.count("\n") == 1 and os.listdir() == []


@pytest.mark.parametrize(
    ("source", "line"),
    [("./nowhere", "no such folder; check the path"), ("", "--hf_path is empty")],
)
def test_a_missing_source_is_a_one_line_error(run_convert, source, line):
    status, err = run_convert(source=source)
    assert status == 2 and line in err and err.count("\n") == 1


def test_a_converted_checkpoint_can_be_quantised(run_convert, exchange, tmp_path):
    assert run_convert("--mlx_path", "bf16")[0] == 0
    assert run_convert("--mlx_path", "6bit", "--recipe", "6bit", source="./bf16")[0] == 0
    direct = load_model(exchange, quantize="6bit")
    assert same(parameters(load_model("./6bit")), parameters(direct))


def test_a_quantised_checkpoint_is_written_unquantised(run_convert, exchange):
    assert run_convert("--mlx_path", "4bit", "--recipe", "4bit")[0] == 0
    assert run_convert("--mlx_path", "full", "-d", source="./4bit")[0] == 0
    config = json.loads(Path("full/config.json").read_text())
    assert not {"quantization", "quantization_config"} & config.keys()
    quantised, full = (
        parameters(load_model(folder, dtype="bfloat16")) for folder in ("./4bit", "./full")
    )
    path = "base_lm.layers.0.mlp.down_proj"
    parts = [quantised[f"{path}.{name}"] for name in ("weight", "scales", "biases")]
    wanted = mx.dequantize(*parts, group_size=parts[0].shape[1] * 8 // parts[1].shape[1], bits=4)
    assert mx.array_equal(full[f"{path}.weight"], wanted.astype(full[f"{path}.weight"].dtype))
    assert not [name for name in full if name.endswith(".scales")]


def test_a_quantised_checkpoint_of_mlx_audio_stays_quantised(run_convert, exchange, tmp_path):
    source = shutil.copytree(exchange, tmp_path / "source")
    quantised(source)
    assert run_convert("--mlx_path", "new", source=source)[0] == 0
    assert same(parameters(load_model("./new")), parameters(load_model(source)))


MIXED = {"mixed_4_6": (4, 6), "mixed_3_6": (3, 6), "mixed_3_4": (3, 4), "mixed_2_6": (2, 6)}


@pytest.mark.parametrize("name", MIXED)
def test_mlx_lms_mixed_recipes_have_their_bits(run_convert, name):
    assert run_convert("--mlx-path", "new", "-q", "--quant-predicate", name)[0] == 0
    entry = json.loads(Path("new/config.json").read_text())["quantization"]
    down = entry["base_lm.layers.0.mlp.down_proj"]["bits"]
    assert (entry["bits"], down) == MIXED[name]


def test_python_takes_what_the_command_takes(exchange, tmp_path):
    target = convert(exchange, tmp_path / "a", quantize=True, q_bits=8, q_group_size=32)
    assert same(
        parameters(load_model(target)),
        parameters(load_model(exchange, quantize=Quantization(8, 32))),
    )
    known = inspect.signature(convert).parameters
    settings = {action.dest for action in command.build_parser("x")._actions}
    assert settings - {"help", "help_all", "version", "cache_dir", "local_files_only"} <= {
        *known,
        "==SUPPRESS==",
    }
    with pytest.raises(TypeError, match="quant_predicate is recipe here"):
        convert(exchange, tmp_path / "b", quant_predicate="8bit")
    with pytest.raises(ValueError, match="q_bits says how to quantise"):
        convert(exchange, tmp_path / "b", q_bits=8)
    assert not (tmp_path / "b").exists()


def test_a_file_size_limit_is_a_one_line_error(exchange, tmp_path):
    """A full disk ends in the same way; no file is left."""
    limit = 'ulimit -f 100; exec "$0" -m mlx_voxcpm2.convert --hf_path "$1" --mlx_path new'
    limited = ["sh", "-c", limit, sys.executable, str(exchange)]
    done = subprocess.run(limited, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and "new can't be written (File too large)" in done.stderr
    assert done.stderr.count("\n") == 1 and os.listdir(tmp_path) == []


def test_a_repository_of_the_hub_is_converted(exchange, run_command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = ["--hf_path", "org/voice", "--recipe", "4bit", "--mlx_path", "new"]
    with Hub() as hub, hub_client(hub.environment(tmp_path / "cache")):
        hub.add("org/voice", exchange, branch="v2")
        status, _, err = run_command(command.main, *flags, "--revision", "v2")
        assert status == 0 and "new: 0.00 GB" in err
        direct = load_model(exchange, quantize="4bit")
        assert same(parameters(load_model(tmp_path / "new")), parameters(direct))
        for changes, line in (
            (["--hf_path", "org/other"], "nor a repository on the hub"),
            (["--revision", "v9"], "no revision 'v9'"),
        ):
            status, _, err = run_command(command.main, *flags, "--overwrite", *changes)
            assert status == 2 and line in err and err.count("\n") == 1
    with hub_client(hub.environment(tmp_path / "cache")):  # no network: the hub is gone
        status, _, err = run_command(command.main, "--hf_path", "org/third")
    assert status == 2 and "the hub can't be reached" in err and err.count("\n") == 1
    assert sorted(os.listdir(tmp_path)) == ["cache", "new"]


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_stops_a_download_at_once(exchange, tmp_path, name, status):
    with Hub() as hub:
        hub.add("org/voice", exchange)
        hub.cuts["model.safetensors"] = Cut(times=1, pause=30)
        words = ["--hf_path", "org/voice", "--mlx_path", str(tmp_path / "new")]
        converting = [sys.executable, "-m", "mlx_voxcpm2.convert", *words]
        environment = hub.environment(tmp_path / "cache")
        process = subprocess.Popen(converting, env=environment, stderr=subprocess.DEVNULL)
        limit = time.monotonic() + 60  # a busy machine needs a while to start it
        while "model.safetensors" not in hub.fetched():
            assert time.monotonic() < limit and process.poll() is None
            time.sleep(0.01)
        process.send_signal(getattr(signal, name))
        assert process.wait(timeout=10) == status
    assert os.listdir(tmp_path) == ["cache"]


def test_a_progress_bar_is_shown_only_on_a_terminal(exchange, tmp_path):
    arguments = ["--hf_path", str(exchange), "--mlx_path"]
    start = [sys.executable, "-m", "mlx_voxcpm2.convert", *arguments]
    silent = subprocess.run([*start, str(tmp_path / "a")], capture_output=True, text=True)
    assert "writing" not in silent.stderr
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    subprocess.run([*start, str(tmp_path / "b")], stderr=theirs, timeout=30)
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert "writing" in shown and "checking" in shown and "B/s" in shown
