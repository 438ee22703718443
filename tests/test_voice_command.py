"""`mlx-voxcpm2 voice` and the flags of `generate` that go with it."""

import json
import os
from pathlib import Path

import checkpoints
import mlx.core as mx
import numpy as np
import pytest
import soundfile
from voice_clips import RATE, speech

from mlx_voxcpm2 import Voice, cli

QUICK = ["--inference_timesteps", "2", "--dtype", "float32", "--seed", "3"]


@pytest.fixture
def run(released, tmp_path, monkeypatch, run_command):
    """Runs `mlx-voxcpm2` in a folder with a clip; returns status, standard output and error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLX_VOXCPM2_VOICES", str(tmp_path / "voices"))
    soundfile.write("clip.wav", speech(2.53), RATE)

    def run(*arguments: str):
        if arguments[:2] == ("voice", "add"):
            arguments = *arguments, "--model", str(released.folder)
        if arguments[0] == "generate":
            arguments = *arguments, "--model", str(released.folder), *QUICK
        return run_command(cli.main, *arguments)

    return run


@pytest.fixture
def speaker(released, monkeypatch):
    """Decides when `generate` stops: "always" or "never"."""

    def set_stop_head(which: str):
        weight = mx.array(checkpoints.stop_head(which, released.config))
        monkeypatch.setitem(released.model.stop_head, "weight", weight)
        monkeypatch.setattr("mlx_voxcpm2.load.load_model", lambda *_, **__: released.model)

    return set_stop_head


def test_a_voice_is_added_listed_shown_spoken_and_removed(run):
    words = ["--prompt_text", "What it says."]
    status, out, err = run("voice", "add", "Anna", "--ref_audio", "clip.wav", *words)
    file = Path.cwd() / "voices" / "Anna.safetensors"
    assert (status, out, err) == (0, "", f"{file}: reference 2.6 s, prompt 2.6 s\n")
    note = ["--description", "low, warm"]
    assert run("voice", "add", "bob", "--reference-audio", "clip.wav", *note)[0] == 0
    listed = "Anna  reference 2.6 s, prompt 2.6 s\nbob   reference 2.6 s; low, warm\n"
    assert run("voice", "list") == (0, listed, "")

    anna, bob = json.loads(run("voice", "list", "--json")[1])
    created = anna.pop("created")
    assert anna == {
        "name": "Anna",
        "file": str(file),
        "reference_seconds": 2.56,
        "prompt_seconds": 2.56,
        "prompt_text": "What it says.",
        "description": "",
    }
    assert bob["prompt_text"] is None and bob["description"] == "low, warm"
    status, out, err = run("voice", "show", "anna")
    assert (status, err) == (0, "") and out.splitlines() == [
        "name: Anna",
        f"file: {file}",
        "reference_seconds: 2.56",
        "prompt_seconds: 2.56",
        "prompt_text: What it says.",
        f"created: {created}",
    ]
    assert json.loads(run("voice", "show", "bob", "--json")[1]) == bob

    length = ["--max_tokens", "2", "--text", "Hello."]
    clips = ["--ref_audio", "clip.wav", "--prompt_audio", "clip.wav", *words]
    assert run("generate", *length, "--voice", "anna", "--output", "voice.wav")[0] == 0
    assert run("generate", *length, *clips, "--output", "clips.wav")[0] == 0
    assert Path("voice.wav").read_bytes() == Path("clips.wav").read_bytes()

    status, _, err = run("voice", "remove", "Anna", "Berta")
    assert status == 2 and "no voice 'Berta'" in err and file.exists()
    assert run("voice", "remove", "ANNA", "bob", "anna")[0] == 0
    status, out, err = run("voice", "list")
    assert (status, out) == (0, "") and "no voices in" in err and "voice add" in err
    assert json.loads(run("voice", "list", "--json")[1]) == []


def test_a_transcript_is_read_from_a_file_and_a_voice_saved_to_one(run):
    Path("words.txt").write_text("What it says.\n")
    to = ["./shared.safetensors", "--ref-audio", "clip.wav", "--prompt-file", "words.txt"]
    assert run("voice", "add", *to)[0] == 0
    assert Voice.load("./shared.safetensors").prompt_text == "What it says."
    assert run("voice", "add", *to)[0] == 2
    assert run("voice", "add", *to[:3], "--overwrite")[0] == 0
    assert Voice.load("./shared.safetensors").prompt is None
    assert run("voice", "show", "./shared.safetensors")[0] == 0
    assert not Path("voices").exists()


def test_a_poor_clip_is_cleaned_and_reported(run, caplog, released):
    soundfile.write("quiet.wav", speech(level=0.01), RATE, "FLOAT")
    assert run("voice", "add", "mended", "--ref_audio", "quiet.wav")[0] == 0
    assert "18 dB louder" in caplog.text
    caplog.clear()
    assert run("voice", "add", "kept", "--ref_audio", "quiet.wav", "--as-is")[0] == 0
    assert "is quiet" in caplog.text and "dB louder" not in caplog.text
    encoded = released.model.encode_audio("quiet.wav")
    assert mx.array_equal(Voice.load("kept").reference, encoded)
    assert not mx.array_equal(Voice.load("mended").reference, encoded)


def test_a_designed_voice_is_saved_as_it_was_generated(run, speaker, released):
    speaker("always")
    design = ["--text", "Hello  there.", "--instruct", "An old man", "--output", "design.wav"]
    length = ["--min_tokens", "4"]
    status, _, err = run("generate", *design, *length, "--save_voice", "old man")
    assert status == 0 and "old man.safetensors: the voice is saved" in err
    voice = Voice.load("old man")
    assert (voice.prompt_text, voice.description) == ("Hello there.", "An old man")
    (result,) = released.model.generate(
        "Hello there.", instruct="An old man", seed=3, min_tokens=4, inference_timesteps=2
    )
    speech = (np.array(result.audio), 48000)
    assert mx.array_equal(voice.reference, released.model.encode_audio(speech))
    assert mx.array_equal(voice.prompt, released.model.encode_audio(speech, "left"))
    streamed = run("generate", *design, *length, "--stream", "--save_voice", "streamed")
    assert streamed[0] == 0
    assert mx.array_equal(Voice.load("streamed").reference, voice.reference)
    spoken = run("generate", "--text", "Hi.", "--voice", "old man", "--instruct", "sad")
    assert spoken[0] == 0


def test_speech_that_was_cut_is_saved_without_its_transcript(run, speaker):
    speaker("never")
    status = run("generate", "--text", "Hello.", "--max_tokens", "3", "--save_voice", "cut")[0]
    assert status == 0
    assert Voice.load("cut").prompt_text is None and len(Voice.load("cut").reference) == 3


BAD = [
    (["voice"], "add|list|show|remove"),
    (["voice", "sing"], "sing"),
    (["voice", "add"], "NAME_OR_PATH"),
    (["voice", "add", "x"], "no clip; give --ref_audio"),
    (["voice", "add", "../x", "--ref_audio", "clip.wav"], "can't be a voice's name"),
    (["voice", "add", "kept", "--ref_audio", "clip.wav"], "exists already"),
    (["voice", "add", "x", "--ref_audio", "none.wav"], "no file 'none.wav'"),
    (["voice", "add", "x", "--ref_audio", "silent.wav"], "nothing but silence"),
    (["voice", "add", "x", "--ref_audio", "clip.wav", "--prompt_audio", "clip.wav"], "prompt_text"),
    (["voice", "add", "none/x.safetensors", "--ref_audio", "clip.wav"], "no such folder"),
    (["voice", "show", "nobody"], "there: damaged, kept"),
    (["voice", "show", "damaged"], "damaged or no voice"),
    (["voice", "remove"], "NAME"),
    (["voice", "remove", "kept", "../clip"], "can't be a voice's name"),
    (["voice", "remove", "kept", "./model.safetensors"], "delete it yourself"),
    (["generate", "--text", "a", "--voice", "nobody"], "no voice 'nobody'"),
    (["generate", "--text", "a", "--voice", "damaged"], "damaged or no voice"),
    (["generate", "--text", "a", "--voice", "kept", "--ref_audio", "clip.wav"], "both given"),
    (["generate", "--text", "a", "--voice", "kept", "--prompt_text", "b"], "both given"),
    (["generate", "--text", "a", "--save_voice", "kept"], "exists already"),
    (["generate", "--text", "a", "--save_voice", "a/b"], "can't be a voice's name"),
]


@pytest.mark.parametrize(("arguments", "line"), BAD, ids=[" ".join(a) for a, _ in BAD])
def test_bad_input_is_one_line_and_status_2_and_leaves_nothing(run, arguments, line, monkeypatch):
    assert run("voice", "add", "kept", "--ref_audio", "clip.wav")[0] == 0
    Path("voices/damaged.safetensors").write_bytes(b"no voice")
    soundfile.write("silent.wav", np.zeros(40000), RATE)
    Path("model.safetensors").write_bytes(b"no voice")
    if "silent.wav" not in arguments:  # all but that is found before a model is read

        def read(*_):
            raise AssertionError("the model is read")

        for name in ("load_model", "load_lazily"):
            monkeypatch.setattr(f"mlx_voxcpm2.load.{name}", read)
    before = sorted(os.listdir()), sorted(os.listdir("voices"))
    status, out, err = run(*arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert line in err and "Traceback" not in err
    assert (sorted(os.listdir()), sorted(os.listdir("voices"))) == before


def test_a_damaged_voice_does_not_hide_the_others(run, caplog):
    assert run("voice", "add", "kept", "--ref_audio", "clip.wav")[0] == 0
    Path("voices/damaged.safetensors").write_bytes(b"no voice")
    Path("voices/notes.txt").write_text("no voice")
    status, out, _ = run("voice", "list")
    assert (status, out) == (0, "kept  reference 2.6 s\n")
    assert "damaged.safetensors: damaged or no voice" in caplog.text
    assert run("voice", "remove", "damaged")[0] == 0


def test_control_characters_in_a_voice_are_not_printed(run):
    note = ["--description", "a\x1b[2J\x9bb\nc\u202e", "--prompt_text", "x\x07"]
    assert run("voice", "add", "kept", "--ref_audio", "clip.wav", *note)[0] == 0
    assert run("voice", "list")[1].endswith("; a [2J b c \n")
    shown = run("voice", "show", "kept")[1]
    assert all(line.isprintable() for line in shown.splitlines()) and "prompt_text: x " in shown
    assert run("voice", "list", "--json")[1].isascii()
