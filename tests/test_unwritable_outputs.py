"""Outputs that can't be written are refused before a model is looked for, by every command."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from mlx_voxcpm2 import Voice, cli
from mlx_voxcpm2.files import check_writable

# The system refuses files there, also to an administrator; elsewhere the folder does not exist.
CLOSED = "/proc"
SPOKEN = ["--text", "Hi.", "--model", "./none"]


@pytest.fixture
def run(tmp_path, monkeypatch, run_command):
    """Runs a command in a folder with its inputs, whose model does not exist."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLX_VOXCPM2_VOICES", f"{CLOSED}/voices")
    monkeypatch.setattr(
        "mlx_voxcpm2.recognition.recogniser.check_recognition_installed", lambda *_: None
    )
    soundfile.write("clip.wav", np.sin(np.arange(96000) / 9), 16000)
    Path("script.txt").write_text("A: Hi.\nB: Ho.\n")
    Path("lines.txt").write_text("Hi.\n")
    Path("data.jsonl").write_text('{"audio": "clip.wav", "text": "Hi."}\n')

    def run(*arguments: str):
        status, out, err = run_command(cli.main, *arguments)
        assert status == 2 and out == "" and err.count("\n") == 1, err
        assert "./none" not in err and "/none:" not in err, "the model was looked for first"
        return err

    return run


@pytest.mark.parametrize(
    "arguments",
    [
        ["generate", *SPOKEN, "--output", f"{CLOSED}/a.wav"],
        ["generate", *SPOKEN, "--output", f"{CLOSED}/a.wav", "--stream"],
        ["generate", *SPOKEN, "--output_path", f"{CLOSED}/new"],
        ["generate", *SPOKEN, "--subtitles", f"{CLOSED}/a.srt"],
        ["generate", *SPOKEN, "--save_voice", f"{CLOSED}/a.safetensors"],
        ["generate", *SPOKEN, "--save_voice", "anna"],
        ["dialogue", "script.txt", "--model", "./none", "--subtitles", f"{CLOSED}/a.vtt"],
        ["batch", "--input", "lines.txt", "--model", "./none", "--output_dir", f"{CLOSED}/new"],
        ["voice", "add", "anna", "--ref_audio", "clip.wav", "--model", "./none"],
        ["transcribe", "clip.wav", "--output", f"{CLOSED}/a.txt"],
        ["transcribe", "clip.wav", "--output", f"{CLOSED}/new/"],
        ["train", "--train", "data.jsonl", "--model", "./none", "--output", f"{CLOSED}/new"],
        ["convert", "--hf_path", "./none", "--mlx_path", f"{CLOSED}/new"],
        ["benchmark", "--model", "./none", "--json", f"{CLOSED}/a.json"],
        ["benchmark", "--model", "./none", "--plot", f"{CLOSED}/a.png"],
    ],
    ids=lambda arguments: " ".join([arguments[0], *arguments[-2:]]),
)
def test_it_is_one_line_before_anything_is_loaded(run, arguments):
    before = sorted(Path().iterdir())
    assert CLOSED in run(*arguments)
    assert sorted(Path().iterdir()) == before


def test_a_run_is_not_started_among_other_files(run, tmp_path):
    arguments = ["train", "--train", "data.jsonl", "--model", "./none", "--output", str(tmp_path)]
    assert "holds other things" in run(*arguments)


def test_a_full_disk_is_found_before_the_speech(run, monkeypatch):
    """Of the subtitles only the audio's place was tried before."""
    tried = []
    monkeypatch.setattr("mlx_voxcpm2.audio.writing.check_writable", tried.append)
    monkeypatch.setattr("mlx_voxcpm2.voices.folder.check_writable", tried.append)
    with pytest.raises(AssertionError, match="the model was looked for first"):
        run("generate", *SPOKEN, "--subtitles", "a.srt", "--save_voice", "./b.safetensors")
    assert [path.name for path in tried] == ["speech.wav", "a.srt", "b.safetensors"]


def test_a_check_leaves_nothing_and_makes_no_folder(tmp_path):
    check_writable(tmp_path / "new" / "newer" / "file")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        check_writable(tmp_path / "file" / "other")


def test_a_voice_says_so_too(tmp_path, released, voice_clip):
    voice = released.model.make_voice(str(voice_clip))
    assert isinstance(voice, Voice)
    with pytest.raises(OSError, match=r"can't be written .* choose another place"):
        voice.save(f"{CLOSED}/a.safetensors")
