"""`generate` with a long text."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mlx_voxcpm2.commands import generate
from mlx_voxcpm2.commands.asr_flags import RecogniserChoice
from mlx_voxcpm2.commands.long_text import segment_cache
from mlx_voxcpm2.commands.model_flags import ModelChoice
from mlx_voxcpm2.commands.output import OutputTargets

QUICK = ["--inference_timesteps", "2", "--max_tokens", "3", "--dtype", "float32"]
BOOK = "The first one is long enough to be cloned.\n\nYes. [pause:0.8] " + "No, the the. " * 30


@pytest.fixture
def run(released, tmp_path, monkeypatch, run_command):
    """Runs the command in an empty folder, on the model that is loaded; status and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(generate, "load", lambda args: released.model)
    Path("book.txt").write_text(BOOK, encoding="utf-8")

    def run(*arguments: str):
        status, _, err = run_command(
            generate.main, "--model", str(released.folder), *QUICK, *arguments
        )
        return status, err

    return run


BOOK_FLAGS = ["--text_file", "book.txt", "--seed", "3"]


def test_a_book_becomes_a_file_with_subtitles(run):
    status, err = run(*BOOK_FLAGS, "--subtitles", "book.srt", "--output", "book.wav")
    assert status == 0
    audio, _ = soundfile.read("book.wav")
    assert len(audio) == 4 * 3 * 7680 + 24000 + 38400
    assert (audio[23040:47040] == 0).all() and (audio[70080:108480] == 0).all()
    text = Path("book.srt").read_text(encoding="utf-8")
    assert text.count("-->") == 32, "a cue for each sentence"
    assert "2\n00:00:00,980 --> 00:00:01,460\nYes.\n" in text
    assert "3\n00:00:02,260 --> 00:00:02," in text and "\nNo, the the.\n" in text
    assert "4 segments" in err and "seed 3" in err
    assert sorted(os.listdir()) == ["book.srt", "book.txt", "book.wav"]


def test_a_book_is_the_same_streamed_and_in_parallel(run):
    assert run(*BOOK_FLAGS, "--output", "a.wav")[0] == 0
    streamed = ["--stream", "--segment_length", "300"]
    assert run(*BOOK_FLAGS, "--output", "b.wav", *streamed)[0] == 0
    assert run(*BOOK_FLAGS, "--output", "c.flac", "--parallel", "3")[0] == 0
    first, second, third = (soundfile.read(name)[0] for name in ("a.wav", "b.wav", "c.flac"))
    assert np.array_equal(first, second)
    np.testing.assert_allclose(third, first, atol=3e-3)


def test_a_short_text_is_spoken_as_before(run, released):
    assert run("--text", "Hello.\n\nYou.", "--seed", "7", "--output", "a.wav")[0] == 0
    (result,) = released.model.generate(
        "Hello.\n\nYou.", seed=7, max_tokens=3, inference_timesteps=2
    )
    audio, _ = soundfile.read("a.wav", dtype="float32")
    np.testing.assert_allclose(audio, np.array(result.audio), atol=2 / 2**15)
    assert run("--text", "Hi.", "--output", "b.wav", "--subtitles", "b.vtt")[0] == 0
    assert "00:00:00.000 --> 00:00:00.480\nHi." in Path("b.vtt").read_text(encoding="utf-8")


def test_a_killed_book_is_resumed_and_becomes_the_same_file(run, released, tmp_path):
    assert run(*BOOK_FLAGS, "--output", "unbroken.wav")[0] == 0
    given = ["--model", str(released.folder), *QUICK, *BOOK_FLAGS, "--output", "book.wav"]
    # It waits after each segment, so that it is killed between them.
    script = (
        "import runpy, sys, time; import mlx_voxcpm2.long_form.cache as parts\n"
        "write = parts.SegmentCache.write\n"
        "def slow(*a):\n    write(*a); time.sleep(1)\n"
        "parts.SegmentCache.write = slow; sys.argv = sys.argv[1:]\n"
        "runpy.run_module('mlx_voxcpm2.generate', run_name='__main__')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, "generate", *given], stderr=subprocess.DEVNULL
    )
    kept = tmp_path / "book.wav.parts"
    while len(list(kept.glob("*.safetensors"))) < 2 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert sorted(os.listdir()) == ["book.txt", "book.wav.parts", "unbroken.wav"]
    status, err = run(*BOOK_FLAGS, "--output", "book.wav")
    assert status == 0 and "2 of them from an earlier run" in err
    whole = soundfile.info("book.wav").duration
    assert f"book.wav: {whole:.2f} s, 0.96 s of it new, in " in err
    assert Path("book.wav").read_bytes() == Path("unbroken.wav").read_bytes()
    assert not kept.exists()


def test_a_stream_is_not_split_unless_asked_for(run):
    """Unless it is asked for: what is streamed is not split, and the first patch is heard."""
    text = "Hello there, good people. " * 13
    flags = ["--text", text, "--stream", "--max_tokens", "3", "--output", "heard.wav"]
    assert "2 segments" not in run(*flags)[1]
    assert "2 segments" in run(*flags, "--segment_length", "200")[1]


def test_the_voice_of_a_book_can_be_saved(run):
    flags = [*BOOK_FLAGS, "--min_tokens", "0", "--save_voice", "./narrator.safetensors"]
    assert run(*flags, "--output", "book.wav")[0] == 0
    assert run("--text", "Hi.", "--voice", "./narrator.safetensors")[0] == 0


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--text", "Hello. [pause:long]"], "[pause:long] is no pause"),
        (["--text", "a", "--parallel", "0"], "parallel"),
        (["--text", "a", "--crossfade", "-1"], "crossfade"),
        (["--text", "a", "--segment_length", "-1"], "segment_length"),
        (["--text", "a", "--paragraph_pause", "nan"], "paragraph_pause"),
        (["--text", "a", "--subtitles", "a.txt"], ".srt or .vtt"),
        (["--text", "a", "--subtitles", "missing/a.srt"], "no folder"),
        (["--text_file", "book.txt", "--ref_audio", "book.txt"], "book.txt"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(run, flags, line):
    status, err = run(*flags)
    assert status == 2 and line in err and err.count("\n") == 1
    assert os.listdir() == ["book.txt"]


def test_the_voice_of_a_segment_that_was_spoken_is_saved(tmp_path, monkeypatch, run_command):
    """The first segment has the most letters, but English can't read it."""
    monkeypatch.chdir(tmp_path)
    text = "你好。" * 60 + "\n\nThe kettle is on."
    flags = ["--model", "english", "--text", text, "--output", "a.wav"]
    saved = ["--save_voice", "./anna.safetensors"]
    assert run_command(generate.main, *QUICK, *flags, *saved)[0] == 0
    assert Path("anna.safetensors").is_file()


def test_segments_that_another_recogniser_chose_are_not_used_again(released, tmp_path, monkeypatch):
    monkeypatch.setattr(RecogniserChoice, "check_installed", lambda self: None)
    targets = OutputTargets(output=str(tmp_path / "a.wav"))

    def settings(**choice) -> object:
        model = ModelChoice(model=str(released.folder))
        cache = segment_cache(targets, model, RecogniserChoice(**choice))
        assert cache is not None
        return cache.settings

    for checks in ({"best_of": 2}, {"verify": True}):
        assert settings(asr_model="a/b", **checks) == settings(asr_model="a/b", **checks)
        assert settings(asr_model="a/b", **checks) != settings(asr_model="c/d", **checks)
    assert settings() == ModelChoice(model=str(released.folder)).cache_key()
