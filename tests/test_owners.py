"""What belongs to one run, and to one model's weights."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import pytest

from mlx_voxcpm2.commands import batch, generate
from mlx_voxcpm2.convert import convert
from mlx_voxcpm2.documents import content_key
from mlx_voxcpm2.files import claimed
from mlx_voxcpm2.weights.fingerprint import fingerprint

QUICK = ["--inference_timesteps", "1", "--max_tokens", "1", "--seed", "3"]


@pytest.fixture
def command(released, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for module in (generate, batch):
        monkeypatch.setattr(module, "load", lambda choice: released.model)
    Path("lines.txt").write_text("One.")
    return ["--model", str(released.folder), *QUICK]


def test_a_second_run_with_one_output_is_refused_at_once(command, run_command, exchange):
    book = [*command, "--text", "Hi."]
    Path("link").symlink_to(".")
    with claimed(Path("a.wav"), ""), claimed(Path("out"), ""), claimed(Path("new"), ""):
        for flags in (["--output", "a.wav"], ["--output", "link/a.wav", "--stream"]):
            status, _, message = run_command(generate.main, *book, *flags)
            assert status == 2 and "another run writes this now" in message
        lines = ["--input", "lines.txt", "--output_dir", "link/out"]
        status, _, message = run_command(batch.main, *command, *lines)
        assert status == 2 and "another run writes this now; wait" in message
        with pytest.raises(ValueError, match="another run writes this now"):
            convert(exchange, "new")
    assert sorted(os.listdir()) == ["lines.txt", "link"]
    assert run_command(generate.main, *book, "--output", "a.wav")[0] == 0


def test_a_lock_ends_with_its_process(tmp_path):
    script = (
        "import os, sys; from pathlib import Path; from mlx_voxcpm2.locks import owned\n"
        "with owned(Path(sys.argv[1]), ''):\n    os._exit(7)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "a.wav")])
    assert done.returncode == 7
    with claimed(tmp_path / "a.wav", ""):
        assert os.listdir(tmp_path) == []


def test_a_fingerprint_is_of_the_weights_wherever_they_lie(checkpoint_copy, tmp_path):
    before = fingerprint(checkpoint_copy)
    moved = checkpoint_copy.rename(tmp_path / "moved")
    (moved / "notes.md").write_text("mine")
    os.utime(moved / "config.json", (0, 0))
    assert fingerprint(moved) == before
    weights = moved / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-3] ^= 1
    weights.write_bytes(data)
    assert fingerprint(moved) != before


def test_large_files_are_told_apart_by_samples(tmp_path):
    file = tmp_path / "a"
    data = bytearray(os.urandom(2**20))
    keys = set()
    for place in (None, 0, 2**19, -1):
        changed = bytearray(data)
        if place is not None:
            changed[place] ^= 1
        file.write_bytes(changed)
        keys.add(content_key(file, whole=2**16, samples=65))
    assert len(keys) == 4


def test_a_batch_is_resumed_on_the_same_weights_only(command, run_command, released, tmp_path):
    lines = ["--input", "lines.txt", "--output_dir", "out"]
    assert run_command(batch.main, *command, *lines)[0] == 0
    moved = Path(shutil.copytree(released.folder, tmp_path / "moved"))
    command[1] = str(moved)
    assert "all 1 texts are there already" in run_command(batch.main, *command, *lines)[2]
    weights = mx.load(str(moved / "model.safetensors"))
    name = next(iter(weights))
    mx.save_safetensors(str(moved / "model.safetensors"), weights | {name: weights[name] + 1})
    assert "1 texts; 0 were there already" in run_command(batch.main, *command, *lines)[2]


def test_a_batch_trusts_no_clock(command, run_command, monkeypatch):
    lines = ["--input", "lines.txt", "--output_dir", "out"]
    for seed, clock in (("3", 2e9), ("4", 1e9), ("3", 5e8)):
        monkeypatch.setattr("time.time", lambda clock=clock: clock)
        message = run_command(batch.main, *command, *lines, "--seed", seed)[2]
        assert "1 texts; 0 were there already" in message
    runs = [json.loads(line)["run"] for line in Path("out/summary.jsonl").read_text().splitlines()]
    assert runs == [1, 2, 3]
