"""`mlx-voxcpm2 batch`: many lines into a folder, again and again, in many processes."""

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import checkpoints
import numpy as np
import pytest
import soundfile
from conftest import module_command

from mlx_voxcpm2.commands import batch as batch_command
from mlx_voxcpm2.commands.batch_lines import Defaults, read_lines
from mlx_voxcpm2.model import VoxCPM2
from mlx_voxcpm2.speech.options import GenerationOptions
from mlx_voxcpm2.voices.saved import Voice

NO_DEFAULTS = Defaults({}, GenerationOptions())
QUICK = ["--inference_timesteps", "2", "--max_tokens", "3", "--dtype", "float32"]


@pytest.fixture
def run(released, tmp_path, monkeypatch, run_command):
    """Runs the command in an empty folder, on the model that is loaded; status and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(batch_command, "load", lambda args: released.model)

    def run(*arguments: str, lines=None):
        if lines is not None:
            write("lines.jsonl", lines)
        given = ["--input", "lines.jsonl", "--output_dir", "out", "--model", str(released.folder)]
        status, _, err = run_command(batch_command.main, *given, *QUICK, *arguments)
        return status, err

    return run


@pytest.fixture
def clip(released, tmp_path) -> Path:
    return checkpoints.write_wav(tmp_path / "clip.wav", *released.waveform("short"))


def write(name: str, lines: list) -> None:
    text = "".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines)
    Path(name).write_text(text, encoding="utf-8")


def records(folder="out") -> dict[str, dict]:
    found = {}
    for path in sorted(Path(folder).glob("summary*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            found[record["audio"]] = record
    return found


def files(folder="out") -> set[str]:
    return {
        path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()
    }


def test_every_line_is_what_generate_says(run, released, clip):
    lines = [
        {"text": "Hello.", "seed": 7, "id": "greeting"},
        {"text": "Good bye then.", "seed": 8, "instruct": "calm", "output": "a/b.flac"},
        "",
        {"text": "你好", "seed": 9, "ref_audio": "clip.wav", "cfg_value": 3, "max_tokens": 2},
        {"text": "Yes.", "seed": 1, "prompt_audio": "clip.wav", "prompt_text": "No.", "id": 5},
        {"text": "Adams.", "seed": 1, "solver": "adams", "inference_timesteps": 3, "id": None},
    ]
    status, err = run("--batch_size", "3", lines=lines)
    assert status == 0 and "2.24 s of speech" in err and "5 texts" in err and "Traceback" not in err
    names = ["greeting.wav", "a/b.flac", "00004.wav", "5.wav", "00006.wav"]
    assert files() == {*names, "summary.jsonl"}
    for name, line in zip(names, filter(None, lines), strict=True):
        audio, rate = soundfile.read(f"out/{name}", dtype="float32")
        wanted = {"max_tokens": 3, "inference_timesteps": 2} | line
        (result,) = released.model.generate(
            **{key: value for key, value in wanted.items() if key not in ("id", "output")}
        )
        assert rate == 48000
        np.testing.assert_allclose(audio, np.array(result.audio), atol=2e-4)
        record = records()[name]
        assert record["text"] == line["text"] and record["seed"] == line["seed"]
        assert record["seconds"] == pytest.approx(len(audio) / rate)
        assert record["finish_reason"] == "length"


def test_a_finished_line_is_skipped_until_its_settings_change(run, clip):
    lines = [{"text": f"Text {n}."} for n in range(3)] + [{"text": "A.", "ref_audio": "clip.wav"}]
    assert run(lines=lines)[0] == 0
    before = records()

    def spoken_again(*flags, lines=lines) -> set[str]:
        status, _ = run(*flags, lines=lines)
        assert status == 0
        changed = {name for name, record in records().items() if record != before.get(name)}
        before.update(records())
        return changed

    assert spoken_again() == set()
    assert spoken_again("--batch_size", "2") == set()
    Path("out/00002.wav").unlink()
    assert spoken_again() == {"00002.wav"}
    lines[0]["text"] = "Another text."
    assert spoken_again() == {"00001.wav"}
    lines[2]["seed"] = 5
    assert spoken_again() == {"00003.wav"} and before["00003.wav"]["seed"] == 5
    soundfile.write("clip.wav", np.sin(np.arange(9000) / 9), 16000)
    assert spoken_again() == {"00004.wav"}
    everything = {f"{n:05d}.wav" for n in range(1, 5)}
    assert spoken_again("--cfg_value", "1.5") == everything
    assert spoken_again() == everything, "the files hold the other settings"
    assert spoken_again("--quantize", "8bit") == everything
    assert spoken_again("--quantize", "8bit", lines=[*lines, {"text": "New."}]) == {"00005.wav"}


def test_no_model_is_loaded_if_all_lines_are_finished(run, monkeypatch):
    assert run(lines=[{"text": "Hello."}])[0] == 0
    monkeypatch.setattr(batch_command, "load", lambda args: pytest.fail("loaded"))
    status, err = run()
    assert status == 0 and "all 1 texts are there already" in err


def test_a_half_written_record_is_ignored(run):
    assert run(lines=[{"text": "Hello."}, {"text": "Bye."}])[0] == 0
    path = Path("out/summary.jsonl")
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(whole[0] + whole[1][:40])
    assert run()[0] == 0
    again = path.read_bytes().splitlines()
    assert len(again) == 3 and again[1] == whole[1][:40]
    assert json.loads(again[2])["audio"] == json.loads(whole[1])["audio"]


def test_a_voice_of_many_lines_is_encoded_once(run, clip, monkeypatch):
    encoded, encode = [], VoxCPM2.encode_audio

    def counted(self, clip, pad):
        encoded.append(pad)
        return encode(self, clip, pad)

    monkeypatch.setattr(VoxCPM2, "encode_audio", counted)
    lines = [{"text": f"Text {n}."} for n in range(4)]
    lines += [{"text": "A.", "prompt_audio": "clip.wav", "prompt_text": "B."}] * 2
    assert run("--ref_audio", str(clip), lines=lines)[0] == 0
    assert encoded == ["right", "left"]


@pytest.fixture
def kept(released, clip, monkeypatch):
    """Voices "anna", kept by name, and far/ben.safetensors; the folder of the first."""
    folder = Path("voices").absolute()
    monkeypatch.setenv("MLX_VOXCPM2_VOICES", str(folder))
    folder.mkdir()
    os.makedirs("far")
    released.model.make_voice(str(clip), as_is=True).save("anna")
    released.model.make_voice(str(clip), prompt_text="No.", as_is=True).save("far/ben.safetensors")
    return folder


def test_a_line_speaks_in_a_saved_voice(run, released, kept, clip, monkeypatch):
    loaded, load = [], Voice.load
    monkeypatch.setattr(Voice, "load", lambda path: loaded.append(Path(path).name) or load(path))
    lines = [
        {"text": "One.", "seed": 3},
        {"text": "Two.", "seed": 3, "instruct": "calm"},
        {"text": "Three.", "seed": 3, "voice": "far/ben.safetensors"},
        {"text": "Four.", "seed": 3, "ref_audio": "clip.wav"},
        {"text": "Five.", "seed": 3, "voice": "anna"},
    ]
    assert run("--voice", "anna", lines=lines)[0] == 0
    assert sorted(loaded) == ["anna.safetensors", "ben.safetensors"], "each is read once"
    for number, line in enumerate(lines, 1):
        wanted = line if "ref_audio" in line else {"voice": "anna"} | line
        (result,) = released.model.generate(**wanted, max_tokens=3, inference_timesteps=2)
        audio = soundfile.read(f"out/{number:05d}.wav", dtype="float32")[0]
        np.testing.assert_allclose(audio, np.array(result.audio), atol=2e-4)


def test_a_line_is_spoken_again_after_its_voice_changed(run, released, kept, clip):
    assert run(lines=[{"text": "One.", "voice": "anna"}, {"text": "Two."}])[0] == 0
    assert "all 2 texts are there" in run()[1]
    released.model.make_voice(str(clip), prompt_text="No.").save("anna", overwrite=True)
    assert "1 texts" in run()[1]


def test_invalid_voices_are_listed(run, kept):
    Path("far/noise.safetensors").write_bytes(b"noise")
    bad = [
        ({"text": "a", "voice": "nobody"}, "nobody"),
        ({"text": "a", "voice": "anna", "prompt_text": "b"}, "voice and prompt_text are both"),
        ({"text": "a", "voice": 5}, "voice is of type int"),
        ({"text": "a", "voice": "../anna"}, "can't be a voice's name"),
    ]
    for lines in (bad, [({"text": "a", "voice": "far/noise.safetensors"}, "damaged or no voice")]):
        status, err = run(lines=[line for line, _ in lines])
        assert status == 2 and err.count("\n") == len(lines) + 1
        for shown, (_, message) in zip(err.splitlines(), lines, strict=False):
            assert message in shown
    status, err = run("--voice", "anna", "--ref_audio", "clip.wav", lines=[{"text": "a"}] * 3)
    assert status == 2 and err.count("\n") == 1 and "--voice and --ref_audio are both" in err


def test_flags_are_the_defaults_of_lines(run):
    lines = [{"text": "One.", "seed": 3}, {"text": "Two."}]
    assert run("--seed", "4", "--format", "ogg", "--instruct", "calm", lines=lines)[0] == 0
    assert [record["seed"] for record in records().values()] == [3, 4]
    assert files() == {"00001.ogg", "00002.ogg", "summary.jsonl"}


def test_a_text_file_has_a_text_per_line(run):
    Path("lines.txt").write_text("\ufeffGrüß dich.\n\n{Not JSON}\n", encoding="utf-8")
    assert run("--input", "lines.txt")[0] == 0
    assert [record["text"] for record in records().values()] == ["Grüß dich.", "{Not JSON}"]


def test_a_line_that_only_the_model_refuses_does_not_stop_the_others(run):
    lines = [{"text": "One."}, {"text": "the " * 600}, {"text": "Three."}]
    status, err = run(lines=lines)
    assert status == 2 and "1 of 3 lines could not be spoken, the first: line 2: text and" in err
    assert files() == {"00001.wav", "00003.wav", "summary.jsonl"}


BAD = [
    ("[1]", "JSON of type list"),
    ("{text: 1}", "not JSON"),
    ("[" * 9999, "JSON"),
    ({}, "text is missing"),
    ({"text": " "}, "text is empty"),
    ({"text": 5}, "text is of type int"),
    ('{"text": "a \\ud800"}', "half of a surrogate pair"),
    ({"text": "a", "instruct": 5}, "instruct is of type int"),
    ({"text": "a", "prompt_text": "b"}, "prompt_text is given without prompt_audio"),
    (
        {"text": "a", "prompt_text": "b", "prompt_audio": "clip.wav", "instruct": "c"},
        "instruct does not work with a prompt",
    ),
    ({"text": "a", "cfg_value": "2"}, "cfg_value"),
    ({"text": "a", "seed": -1}, "seed"),
    ({"text": "a", "solver": "rk4"}, "solver"),
    ({"text": "a", "retry_badcase": "no"}, "retry_badcase"),
    ({"text": "a", "ref_audio": "missing.wav"}, "'missing.wav' cannot be read"),
    ({"text": "a", "ref_audio": "noise.wav"}, "cannot be read as audio"),
    ({"text": "a", "ref_audio": "a\0.wav"}, "cannot be read (embedded null byte)"),
    ({"text": "a", "voice": "a\0.safetensors"}, "a\\x00.safetensors"),
    ({"script": "A: a", "voices": {"A": "a\0.wav"}}, "a\\x00.wav"),
    ({"text": "a", "output": "../a.wav"}, "leads out of the output folder"),
    ({"text": "a", "output": "b/../../a.wav"}, "leads out of the output folder"),
    ({"text": "a", "output": "/tmp/a.wav"}, "leads out of the output folder"),
    ({"text": "a", "output": "link/a.wav"}, "leads out of out by a link"),
    ({"text": "a", "output": "a.m4a"}, ".m4a files cannot be written"),
    ({"text": "a", "output": ""}, "is not a file name"),
    ({"text": "a", "output": "a/"}, "is not a file name"),
    ({"text": "a", "id": "a\nb"}, "characters"),
    ({"text": "a", "id": "C:\\a"}, "characters"),
    ({"text": "a", "id": True}, "id is of type bool"),
    ({"text": "a", "id": "é" * 101}, "longer than 200 bytes"),
    ({"text": "a", "id": "GOOD"}, "clashes with line"),
    ({"text": "a", "output": "good.wav/a.wav"}, "clashes with line"),
    ({"text": "a", "output": "folder"}, "clashes with line"),
]


def test_every_bad_line_is_listed_before_anything_is_done(run, clip, monkeypatch):
    monkeypatch.setattr(batch_command, "load", lambda args: pytest.fail("loaded"))
    Path("noise.wav").write_bytes(b"noise")
    os.makedirs("elsewhere")
    os.makedirs("out")
    os.symlink("../elsewhere", "out/link")
    good = [{"text": "a", "id": "good"}, {"text": "a", "output": "folder.wav/a.wav"}]
    listed = ""
    # What can't be read as audio is looked for once all else is good.
    for lines in ([line for line, _ in BAD if "noise" not in str(line)], [BAD[15][0]]):
        status, err = run(lines=[*good, *lines])
        assert status == 2 and "Traceback" not in err and err.count("\n") == len(lines) + 1
        many = f"{len(lines)} lines" if len(lines) > 1 else "1 line"
        assert f"lines.jsonl: {many} cannot be used; nothing was spoken" in err
        for number, (line, shown) in enumerate(
            zip(lines, err.splitlines(), strict=False), start=len(good) + 1
        ):
            message = next(message for bad, message in BAD if bad == line)
            assert f"lines.jsonl: line {number}: " in shown and message in shown
        listed += err
    assert files() == set() and os.listdir("elsewhere") == []


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--input", "none.jsonl"], "none.jsonl: no such file"),
        (["--input", "."], "is a folder"),
        (["--input", "empty.jsonl"], "the file is empty"),
        (["--output_dir", "lines.jsonl"], "is a file; give a folder"),
        (["--output_dir", "lines.jsonl/deeper"], "is a file; give a folder"),
        (["--output_dir", "/proc/a"], "/proc"),
        (["--format", "m4a"], ".m4a files cannot be written"),
        (["--batch_size", "0"], "batch_size"),
        (["--cfg_value", "nan"], "cfg_value"),
    ],
)
def test_bad_flags_end_it_before_anything_is_done(run, flags, line):
    Path("empty.jsonl").write_text("\n \n")
    status, err = run(*flags, lines=[{"text": "Hello."}])
    assert status == 2 and line in err and "Traceback" not in err
    assert not Path("out").exists()


def test_unknown_fields_are_named_once(run, caplog):
    assert run(lines=[{"text": "One.", "speaker": "A"}, {"text": "Two.", "speaker": "B"}])[0] == 0
    assert caplog.text.count("unknown fields are ignored: speaker;") == 1


def test_relative_clips_start_from_the_files_folder_or_from_here(tmp_path, monkeypatch, clip):
    monkeypatch.chdir(tmp_path)
    os.makedirs("texts")
    os.rename("clip.wav", "texts/near.wav")
    Path("here.wav").write_bytes(b"")
    lines = [{"text": "a", "ref_audio": name} for name in ("near.wav", "here.wav", "none.wav")]
    write("texts/lines.jsonl", lines)
    found, problems, _ = read_lines("texts/lines.jsonl", NO_DEFAULTS, ".wav")
    assert not problems
    assert [str(line.voice.ref_audio) for line in found] == [
        "texts/near.wav",
        "here.wav",
        "texts/none.wav",
    ]


def start(folder: Path, *flags: str, **environment: str) -> subprocess.Popen:
    files = ["--model", folder, "--input", "lines.jsonl", "--output_dir", "out"]
    command = module_command("cli", "batch", *files, *QUICK, *flags)
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )


def test_a_killed_run_is_resumed(released, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("lines.jsonl", [{"text": f"Text {n}.", "seed": n} for n in range(24)])
    process = start(released.folder, "--batch_size", "2")
    while process.poll() is None and not (Path("out").exists() and len(files()) > 4):
        time.sleep(0.01)
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    before = records()
    assert 0 < len(before) < 24
    for name in before:
        assert soundfile.info(f"out/{name}").frames == 3 * 7680
    times = {name: os.stat(f"out/{name}").st_mtime_ns for name in before}
    process = start(released.folder)
    err = process.communicate()[1]
    assert process.returncode == 0 and f"{len(before)} were there already" in err
    assert files() == {f"{n:05d}.wav" for n in range(1, 25)} | {"summary.jsonl"}
    assert len(records()) == 24
    assert times == {name: os.stat(f"out/{name}").st_mtime_ns for name in before}


def test_processes_share_the_lines(released, tmp_path, monkeypatch):
    """As `mlx.launch` starts them; what one has done another does not do again."""
    monkeypatch.chdir(tmp_path)
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    Path("hosts.json").write_text(json.dumps([[f"127.0.0.1:{port}"] for port in ports]))

    def together(*flags) -> list[tuple[int, str]]:
        running = [
            start(released.folder, *flags, MLX_RANK=str(rank), MLX_HOSTFILE="hosts.json")
            for rank in range(2)
        ]
        return [(process.communicate()[1], process.returncode) for process in running]

    lines = [{"text": f"Text {n}.", "seed": n} for n in range(5)]
    write("lines.jsonl", lines)
    (first, status), (second, other) = together()
    assert (status, other) == (0, 0), first + second
    assert "3 texts" in first and "2 texts" in second
    assert len(records()) == 5 and len(files()) == 7
    shares = [Path(f"out/summary{name}.jsonl").read_text() for name in ("", ".1")]
    assert [text.count("\n") for text in shares] == [3, 2]
    write("lines.jsonl", [*lines, {"text": "", "id": "bad"}])
    (first, status), (second, other) = together()
    assert (status, other) == (2, 2)
    assert "line 6: text is empty" in first and "line 6" not in second
    write("lines.jsonl", lines)
    process = start(released.folder)
    assert "all 5 texts are there already" in process.communicate()[1]
