"""The flag --speed and the field `speed` of batch lines: files are stretched, voices are not."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mlx_voxcpm2.audio.stretching import stretched
from mlx_voxcpm2.commands import batch, generate
from mlx_voxcpm2.voices.saved import Voice

FLAGS = "--inference_timesteps 2 --max_tokens 7 --seed 3 --dtype float32".split()
PATCH = 7680


@pytest.fixture
def run(released, endless_model, tmp_path, monkeypatch, run_command):
    """Function that runs a command in a folder of its own: its status and standard error."""
    monkeypatch.chdir(tmp_path)
    for command in (generate, batch):
        monkeypatch.setattr(command, "load", lambda choice: endless_model)

    def run(command, *flags: str) -> tuple[int, str]:
        status, _, err = run_command(command.main, "--model", released.folder, *FLAGS, *flags)
        return status, err

    return run


def test_the_file_is_stretched_and_the_report_names_its_duration(run, endless_model):
    status, err = run(generate, "Hello there.", "--speed", "0.5", "--output", "slow.wav")
    assert status == 0 and "slow.wav: 2.24 s of speech" in err
    plain = endless_model.speak("Hello there.", inference_timesteps=2, max_tokens=7, seed=3)
    audio, _ = soundfile.read("slow.wav", dtype="float32")
    assert np.abs(audio - stretched(np.array(plain.audio), 48000, 0.5)).max() < 1e-4
    assert run(generate, "Hello there.", "--speed", "0.5", "--output", "b.wav", "--stream")[0] == 0
    assert soundfile.info("b.wav").frames == len(audio)


@pytest.mark.parametrize("flags", [[], ["--stream"], ["--subtitles", "a.srt"]])
def test_a_saved_voice_does_not_depend_on_the_speed(run, flags):
    for speed in ("1", "2"):
        target = ["--save_voice", f"./{speed}.safetensors", "--output", "a.wav"]
        assert run(generate, "Hello there.", "--speed", speed, *flags, *target)[0] == 0
    one, other = (Voice.load(f"{speed}.safetensors") for speed in (1, 2))
    assert np.array_equal(one.reference, other.reference)
    assert one.prompt_text == other.prompt_text


def test_subtitles_have_the_times_of_the_output(run):
    ends = []
    for speed in ("1", "4"):
        flags = ["--speed", speed, "--subtitles", "a.srt", "--output", "a.wav"]
        assert run(generate, "Hello there.", *flags)[0] == 0
        end = Path("a.srt").read_text(encoding="utf-8").split("--> 00:00:0")[1][:5]
        ends.append(float(end.replace(",", ".")))
    assert ends[1] == pytest.approx(ends[0] / 4, abs=0.03)


def test_lines_of_a_batch_have_speeds_of_their_own(run):
    lines = [{"text": "Hello."}, {"text": "Hello.", "speed": 4}, {"text": "Hello.", "speed": 0.5}]
    Path("lines.jsonl").write_text("\n".join(map(json.dumps, lines)))
    command = ["--input", "lines.jsonl", "--output_dir", "out", "--speed", "2", "--max_tokens", "4"]
    assert run(batch, *command)[0] == 0
    frames = [soundfile.info(file).frames for file in sorted(Path("out").glob("*.wav"))]
    assert frames == [2 * PATCH, PATCH, 8 * PATCH]
    records = map(json.loads, Path("out/summary.jsonl").read_text().splitlines())
    assert {each["line"]: each["seconds"] for each in records} == {1: 0.32, 2: 0.16, 3: 1.28}
    assert "all 3 texts are there already" in run(batch, *command)[1]
    command[command.index("--speed") + 1] = "1"
    assert run(batch, *command)[0] == 0  # the two with a speed of their own stay as they are
    assert soundfile.info("out/00001.wav").frames == 4 * PATCH
    assert Path("out/summary.jsonl").read_text().count("\n") == 4


@pytest.mark.parametrize("speed", ["nan", "0", "5", "-1", "fast", ""])
@pytest.mark.parametrize("command", [generate, batch])
def test_a_wrong_speed_is_one_line_and_writes_nothing(run, command, speed):
    Path("lines.txt").write_text("Hello.")
    flags = ["--text", "Hello.", "--output", "a.wav"]
    if command is batch:
        flags = ["--input", "lines.txt", "--output_dir", "out"]
    status, err = run(command, *flags, "--speed", speed)
    assert status == 2 and err.count("\n") == 1 and "speed" in err and "Traceback" not in err
    assert [path.name for path in Path().iterdir()] == ["lines.txt"]


def test_a_line_with_a_wrong_speed_is_named(run):
    Path("lines.jsonl").write_text('{"text": "Hello.", "speed": "fast"}')
    status, err = run(batch, "--input", "lines.jsonl", "--output_dir", "out")
    assert status == 2 and not Path("out").exists()
    assert "line 1: speed is 'fast'; it must be a number from 0.25 to 4" in err


def test_without_the_library_one_line_says_what_to_install(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    status, err = run(generate, "Hello there.", "--speed", "2")
    assert status == 2 and err.count("\n") == 1 and "install 'mlx-voxcpm2[media]'" in err
    assert run(generate, "Hello there.", "--output", "a.wav")[0] == 0
