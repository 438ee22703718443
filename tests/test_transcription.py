"""Transcription of recordings: text, times of sentences, formats and files, on the command line."""

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from mlx_voxcpm2 import cli, transcribe
from mlx_voxcpm2.long_form.transcript_formats import FORMATS, formatted, needs_times
from mlx_voxcpm2.recognition import recogniser as recognition
from mlx_voxcpm2.recognition.protocols import TranscriptSegment
from mlx_voxcpm2.recognition.word_times import WordTime

RATE = 16_000


def noise(seconds: float) -> np.ndarray:
    random = np.random.default_rng(round(1000 * seconds))
    return 0.1 * random.standard_normal(round(seconds * RATE)).astype(np.float32)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


def sound(*seconds: float) -> tuple[np.ndarray, int]:
    """Noise of these lengths, with half a second of silence after each."""
    return np.concatenate([part for each in seconds for part in (noise(each), silence(0.5))]), RATE


class Listener:
    """Recogniser that returns given transcripts one after another, and records its calls."""

    def __init__(self, *transcripts: str):
        self.transcripts, self.seconds, self.languages = list(transcripts), [], []

    def __call__(self, audio: np.ndarray, sample_rate: int) -> str:
        assert audio.dtype == np.float32 and audio.ndim == 1 and sample_rate == RATE
        self.seconds.append(len(audio) / sample_rate)
        return self.transcripts.pop(0) if len(self.transcripts) > 1 else self.transcripts[0]


class LongListener(Listener):
    longest_seconds = 600.0

    def with_language(self, language: str) -> "LongListener":
        self.languages.append(language)
        return self


class TimedListener(Listener):
    def segments(self, audio: np.ndarray, sample_rate: int) -> list[TranscriptSegment]:
        self(audio, sample_rate)
        return [TranscriptSegment("One two.", 0.5, 1.5), TranscriptSegment("Three.", 2.0, 99.0)]


def test_sentences_have_the_times_of_the_pauses_between_them():
    found = transcribe(sound(2, 1), Listener("One two three four. Five six."))
    assert found.text == "One two three four. Five six." and found.duration == 4.0
    assert [each.text for each in found.segments] == ["One two three four.", "Five six."]
    times = [time for each in found.segments for time in (each.start, each.end)]
    assert times == pytest.approx([0, 2, 2.5, 3.5], abs=0.03)


def test_a_recogniser_with_times_of_its_own_is_believed():
    found = transcribe(sound(3), TimedListener("one two three"))
    assert found.text == "One two. Three."
    times = [time for each in found.segments for time in (each.start, each.end)]
    assert times == pytest.approx([0.5, 1.5, 2.0, 3.0], abs=0.03), "within the audio"


def test_a_long_recording_is_cut_at_silences_into_pieces_that_the_recogniser_takes():
    listener, done = LongListener("One.", "Two.", "Three."), []
    found = transcribe(sound(20, 20, 20), listener, progress=lambda *each: done.append(each))
    assert listener.seconds == pytest.approx([20.4, 20.5, 20.6], abs=0.15)
    assert found.text == "One. Two. Three."
    starts = [each.start for each in found.segments]
    assert starts == pytest.approx([0, 20.5, 41], abs=0.03)
    assert done[0] == (0, 61.5) and done[-1] == (61.5, 61.5) and len(done) == 4


def test_without_times_a_recogniser_hears_as_much_at_once_as_it_takes():
    listener = LongListener("All of it.")
    found = transcribe(sound(20, 20, 20), listener, has_times=False, language="de")
    assert listener.seconds == [61.5] and listener.languages == ["de"]
    assert (found.text, found.segments, found.language) == ("All of it.", (), "de")
    listener = Listener("Two halves.")
    assert len(transcribe(sound(20, 20), listener, has_times=False).text.split()) == 4
    assert max(listener.seconds) <= 30, "one that says nothing takes a window of Whisper"


def test_nothing_is_recognised_in_silence():
    listener = Listener("Thanks for watching!")
    found = transcribe((silence(65), RATE), listener)
    assert (found.text, found.segments, listener.seconds) == ("", (), [])


def test_chinese_parts_are_joined_without_spaces():
    found = transcribe(sound(20, 20), Listener("你好。", "今天很好。"))
    assert found.text == "你好。今天很好。"


def test_recordings_are_longer_than_clips(tmp_path):
    path = tmp_path / "long.flac"
    soundfile.write(path, np.tile(noise(1)[:2000], 310), 2000)
    assert transcribe(path, LongListener("Long."), has_times=False).duration == 310


def test_bad_recordings_and_recognisers_are_one_line_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^talk: no file"):
        transcribe(tmp_path / "none.wav", Listener(""), name="talk")
    with pytest.raises(ValueError, match="returns a list"):
        transcribe(sound(1), lambda *_: ["yes"])


class WordListener(Listener):
    def words(self, audio: np.ndarray, sample_rate: int) -> list[WordTime]:
        return [WordTime(" Yes.", 0.5, 1.0)]


def test_words_have_the_recognisers_times_in_the_whole():
    starts = []
    found = transcribe(
        sound(20, 20),
        WordListener("Yes."),
        has_words=True,
        progress=lambda start, _: starts.append(start),
    )
    assert [each.text for each in found.words] == ["Yes.", "Yes."]
    assert [each.start for each in found.words] == [start + 0.5 for start in starts[:2]]
    assert starts[1] > 20
    assert len(json.loads(formatted(found, "verbose_json"))["words"]) == 2
    with pytest.raises(ValueError, match="no times of words"):
        transcribe(sound(1), Listener("Yes."), has_words=True)


def test_parts_of_the_text_are_given_as_they_are_recognised():
    heard = []
    listener = LongListener("你好。", "", "今天。", "Yes.")
    found = transcribe(sound(20, 20, 20, 20), listener, has_times=False, heard=heard.append)
    assert heard == ["你好。", "今天。", " Yes."] and "".join(heard) == found.text
    assert max(listener.seconds) <= 30


def test_formats_hold_the_text_and_the_times():
    found = transcribe(sound(2, 1), Listener("One two three four. Five & six."), language="en")
    assert formatted(found, "text") == formatted(found, "txt") == found.text + "\n"
    assert json.loads(formatted(found, "json")) == {"text": found.text}
    verbose = json.loads(formatted(found, "verbose_json"))
    assert (verbose["task"], verbose["language"], verbose["duration"]) == ("transcribe", "en", 4)
    assert [each["id"] for each in verbose["segments"]] == [0, 1]
    assert verbose["segments"][1]["start"] == pytest.approx(2.5, abs=0.03)
    srt, vtt = formatted(found, "srt"), formatted(found, "vtt")
    assert srt.startswith("1\n00:00:00,000 --> 00:00:02,000\nOne two three four.\n\n2\n")
    assert vtt.startswith("WEBVTT\n\n00:00:00.000 --> ") and "Five &amp; six." in vtt
    assert [needs_times(name) for name in FORMATS] == [False, True, True, False, True]
    with pytest.raises(ValueError, match="format is 'ass'"):
        formatted(found, "ass")


@pytest.fixture
def run(tmp_path, monkeypatch, run_command):
    """Runs `transcribe` in a folder with two recordings and a recogniser that writes "Hello."."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.wav", "b.flac"):
        soundfile.write(name, *sound(1))
    asked = []
    monkeypatch.setattr(
        recognition, "load_recogniser", lambda *each: asked.append(each) or Listener("Hello.")
    )
    monkeypatch.setattr(recognition, "check_recognition_installed", lambda _: None)

    def run(*arguments: str):
        return (*run_command(cli.main, "transcribe", *arguments), asked)

    return run


def test_the_text_goes_to_standard_output(run):
    status, out, err, asked = run("a.wav", "--language", "de")
    assert (status, out, err) == (0, "Hello.\n", "")
    assert asked == [(recognition.DEFAULT_RECOGNISER, "de")]
    assert run("a.wav", "b.flac", "--model", "some/voxtral")[1] == (
        "a.wav:\nHello.\n\nb.flac:\nHello.\n\n"
    )
    assert asked[-1] == ("some/voxtral", None)
    lines = run("a.wav", "b.flac", "--format", "json")[1].splitlines()
    assert [json.loads(line)["file"] for line in lines] == ["a.wav", "b.flac"]


def test_files_are_written_in_the_format_of_their_name(run):
    status, out, err, _ = run("a.wav", "--output", "a.srt")
    assert status == 0 and out == "" and err.startswith("a.srt: 1.5 s transcribed in ")
    assert Path("a.srt").read_text().startswith("1\n00:00:00,000 --> 00:00:01,000\nHello.")
    assert run("a.wav", "b.flac", "--format", "vtt", "--output", "out/")[0] == 0
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.vtt", "b.vtt"]
    assert run("a.wav", "--output", "out")[0] == 0 and Path("out/a.txt").read_text() == "Hello.\n"
    Path("link.txt").symlink_to("out/linked.txt")
    assert run("a.wav", "--output", "link.txt")[0] == 0
    assert Path("link.txt").is_symlink() and Path("out/linked.txt").read_text() == "Hello.\n"


def test_standard_input_is_a_recording(run, monkeypatch):
    data = io.BytesIO(Path("a.wav").read_bytes())
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=data, isatty=lambda: False))
    assert run("-")[:2] == (0, "Hello.\n")


def test_a_damaged_file_is_named_and_the_others_are_transcribed(run, caplog):
    Path("c.wav").write_bytes(b"no audio")
    status, _, err, _ = run("c.wav", "b.flac", "--output", "out/")
    assert status == 2 and err.splitlines()[-1].endswith("1 of 2 files could not be transcribed")
    assert "c.wav: 'c.wav' cannot be read as audio" in caplog.text
    assert [path.name for path in Path("out").iterdir()] == ["b.txt"]
    status, _, err, _ = run("c.wav", "--output", "c.txt")
    assert status == 2 and err.count("\n") == 1 and not Path("c.txt").exists()


def test_files_that_are_no_audio_are_named_before_the_recogniser_is_loaded(
    run, caplog, monkeypatch
):
    for name in ("c.wav", "d.mp3"):
        Path(name).write_bytes(b"no audio")
    assert run("c.wav")[3] == []
    status, _, err, asked = run("c.wav", "d.mp3")
    assert status == 2 and not asked and err.endswith("2 of 2 files could not be transcribed\n")
    caplog.clear()
    named = []
    monkeypatch.setattr(
        recognition,
        "load_recogniser",
        lambda *_: named.append("c.wav: 'c.wav' cannot be read" in caplog.text) or Listener("Yes."),
    )
    assert run("a.wav", "c.wav")[:2] == (2, "a.wav:\nYes.\n\n") and named == [True]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["none.wav"], "none.wav: no such file"),
        (["."], ". is a folder"),
        (["a.wav", "--output", "a.wav"], "is the recording"),
        (["a.wav", "--output", "a.mp4"], "ends in no known format"),
        (["a.wav", "--output", "a.srt", "--format", "vtt"], "does not end in .vtt"),
        ([""], "a recording's name is empty"),
        (["a.wav", "--output", "none/a.txt"], "/none'; create it first"),
        (["a.wav", "--output", "/dev/null", "--format", "txt"], "is a device or a pipe"),
        (["a.wav", "--output", "/proc/a.txt"], "output: "),
        (["a.wav", "b.flac", "--output", "a.txt"], "one file for 2 recordings"),
        (["a.wav", "b.flac", "--format", "srt"], "give --output DIR/"),
        (["a.wav", "./a.wav", "--output", "out/"], "would both become out/a.txt"),
        (["a.wav", "--format", "ass"], "format is 'ass'"),
        (["a.wav", "--asr_model", "./none"], "./none: no such folder"),
        (["-", "-"], "standard input is given more than once"),
        ([], "the following arguments are required: FILE"),
    ],
)
def test_bad_arguments_are_one_line_before_anything_is_loaded(run, arguments, line):
    status, out, err, asked = run(*arguments)
    assert status == 2 and line in err and err.count("\n") == 1 and not out and not asked
    assert sorted(path.name for path in Path().iterdir()) == ["a.wav", "b.flac"]


def test_no_words_are_a_warning(run, caplog):
    soundfile.write("silent.wav", silence(2), RATE)
    status, out, _, _ = run("silent.wav")
    assert status == 0 and out == "\n" and "silent.wav: no words were recognised" in caplog.text
