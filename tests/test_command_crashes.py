"""Commands killed at any change of a file end, run again, as if they had never been killed."""

import json
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import pytest
import soundfile
from crashes import cleared, contents, kill_at_each_change
from safetensors.numpy import load
from voice_clips import RATE, speech

from mlx_voxcpm2 import cli, vibevoice
from mlx_voxcpm2.commands import batch, dialogue, generate

QUICK = ["--inference_timesteps", "1", "--max_tokens", "1", "--seed", "3"]
slow = pytest.mark.slow
SCRIPT = "Anna: Hello there.\nBen (sad): Hi. [pause:0.8]\n"


def assert_the_next_run_repairs(
    place: Path,
    run: Callable[[], int],
    least: int,
    prepare: Callable[[], None] | None = None,
) -> None:
    """A run killed at any change of a file, and run again, leaves what one not killed does."""
    prepare = prepare or (lambda: cleared(place))
    prepare()
    assert run() == 0
    whole = contents(place)
    for _ in kill_at_each_change(place, prepare, run, least):
        assert run() == 0
        assert contents(place) == whole


@pytest.fixture
def loaded(released, monkeypatch):
    for module in (generate, batch):
        monkeypatch.setattr(module, "load", lambda choice: released.model)
    return ["--model", str(released.folder), *QUICK]


def test_a_killed_book_becomes_the_same_file(place, loaded):
    book = [*loaded, "--text_file", "book.txt", "--output", "book.wav", "--subtitles", "book.srt"]

    def prepare() -> None:
        cleared(place)
        Path("book.txt").write_text("One here.\n\nTwo there.")

    assert_the_next_run_repairs(place, lambda: generate.main(book), 15, prepare)


def test_a_killed_batch_becomes_the_same_folder(place, loaded):
    lines = [{"text": "One.", "id": "a"}, {"text": "Two.", "output": "in/b.wav"}]

    def prepare() -> None:
        cleared(place)
        Path("lines.jsonl").write_text("\n".join(map(json.dumps, lines)))

    command = [*loaded, "--input", "lines.jsonl", "--output_dir", "out", "--batch_size", "1"]
    prepare()
    assert batch.main(command) == 0
    whole = contents(place / "out")
    for _ in kill_at_each_change(place, prepare, lambda: batch.main(command), 8):
        assert batch.main(command) == 0
        left = contents(place / "out")
        left.pop("summary.jsonl"), whole.pop("summary.jsonl", None)
        assert left == whole


def test_a_batch_of_other_settings_killed_after_a_file_is_not_taken_for_the_old_one(place, loaded):
    """The file is new, and its record the old one's."""
    Path("lines.txt").write_text("One.")
    command = [*loaded, "--input", "lines.txt", "--output_dir", "out"]
    assert batch.main(command) == 0
    old = Path("out/00001.wav").read_bytes()
    kept = contents(place)

    def prepare() -> None:
        cleared(place)
        Path("out").mkdir()
        for name, data in kept.items():
            Path(name).write_bytes(data)

    for _ in kill_at_each_change(place, prepare, lambda: batch.main([*command, "--seed", "4"])):
        assert batch.main(command) == 0
        assert Path("out/00001.wav").read_bytes() == old


@pytest.mark.parametrize(
    "name", ["a.wav", *(pytest.param(f"a.{each}", marks=slow) for each in ("flac", "mp3"))]
)
def test_a_killed_sentence_becomes_the_same_file(place, loaded, name):
    """A new file, and then one over an older one."""
    command = [*loaded, "--text", "One here.", "--output", name, "--subtitles", "a.srt"]
    assert generate.main(command) == 0
    whole = contents(place)

    def older() -> None:
        cleared(place)
        for file in whole:
            Path(file).write_text("older")

    for prepare in (lambda: cleared(place), older):
        for _ in kill_at_each_change(place, prepare, lambda: generate.main(command), 8):
            for file in set(contents(place)) & set(whole):
                assert Path(file).read_bytes() in (b"older", whole[file])
            assert generate.main(command) == 0
            assert contents(place) == whole


@pytest.mark.parametrize("flags", [[], ["--stream"]])
def test_a_killed_output_without_subtitles_becomes_the_same_file(place, loaded, flags):
    command = [*loaded, "--text", "One here.", *flags, "--output", "a.wav"]
    assert_the_next_run_repairs(place, lambda: generate.main(command), 3)


def test_a_killed_voice_add_leaves_the_voice_or_none(place, released, monkeypatch, tmp_path):
    monkeypatch.setattr("mlx_voxcpm2.load.load_model", lambda *_, **__: released.model)
    soundfile.write(tmp_path / "clip.wav", speech(2.53), RATE)
    add = ["voice", "add", "anna", "--ref_audio", str(tmp_path / "clip.wav"), "--overwrite"]
    add += ["--model", str(released.folder)]
    assert cli.main(add) == 0
    whole = contents(place)
    (voice,) = whole
    assert voice == "voices/anna.safetensors"
    for _ in kill_at_each_change(place, lambda: cleared(place), lambda: cli.main(add), 4):
        assert cli.main(add) == 0
        assert list(contents(place)) == [voice]
        assert load(Path(voice).read_bytes()).keys() == load(whole[voice]).keys()


@pytest.fixture
def speakers(released, monkeypatch, place, tmp_path):
    """A dialogue of two turns, in a clip's voice and in one that is described."""
    monkeypatch.setattr(dialogue, "load", lambda choice: released.model)
    soundfile.write(tmp_path / "clip.wav", speech(2.53), RATE)
    (tmp_path / "script.txt").write_text(SCRIPT)
    voices = ["--voices", f"anna={tmp_path / 'clip.wav'}", "ben=design: low"]
    return [str(tmp_path / "script.txt"), "--model", str(released.folder), *QUICK, *voices]


def test_a_killed_dialogue_becomes_the_same_file(place, speakers):
    command = [*speakers, "--output", "a.wav", "--subtitles", "a.vtt"]
    assert_the_next_run_repairs(place, lambda: dialogue.main(command), 15)


def test_a_killed_dialogue_of_vibevoice_becomes_the_same_file(
    place, make_dialogue, monkeypatch, tmp_path
):
    tiny = make_dialogue("tiny")
    monkeypatch.setattr(vibevoice, "load", lambda *_, **__: tiny.model)
    (tmp_path / "script.txt").write_text(SCRIPT)
    command = [str(tmp_path / "script.txt"), "--engine", "vibevoice", "--model", str(tiny.folder)]
    command += ["--max_tokens", "12", "--seed", "3", "--inference_timesteps", "1"]
    command += ["--output", "a.wav", "--subtitles", "a.vtt"]
    assert_the_next_run_repairs(place, lambda: dialogue.main(command), 8)


def test_files_of_others_are_never_deleted(place, loaded):
    """Names like ours, in the folder of a book's segments and beside what is written."""
    Path("book.txt").write_text("One here.\n\nTwo there.")
    parts = place / "book.wav.parts"
    parts.mkdir()
    mine = [parts / "2024-notes.safetensors", parts / "notes.txt", place / ".book.wav.unfinished"]
    mine += [place / ".book.wav.old.unfinished", place / "book.wav.0123abcd.unfinished"]
    for file in mine:
        file.write_text("mine")
    save = mx.save_safetensors
    save(str(parts / "000009.safetensors"), {"x": mx.zeros(3)}, {"my": "weights"})
    book = [*loaded, "--text_file", "book.txt", "--output", "book.wav", "--segment_length", "9"]
    assert generate.main(book) == 0
    assert all(file.read_text() == "mine" for file in mine)
    assert (parts / "000009.safetensors").exists()
