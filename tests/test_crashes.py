"""Commands that are killed at any change of a file: content right, and nothing left behind."""

import errno
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import soundfile
from crashes import kill_at_each_change
from training_runs import arguments as training_arguments

from mlx_voxcpm2 import files
from mlx_voxcpm2.audio.streams import GrowingFile
from mlx_voxcpm2.audio.writing import write_audio
from mlx_voxcpm2.commands import batch, generate
from mlx_voxcpm2.convert import convert
from mlx_voxcpm2.training.run_folder import RunFolder
from mlx_voxcpm2.weights.adapter_files import read_adapter, save_adapter

TONE = np.sin(np.arange(9600) / 9).astype(np.float32) / 2
QUICK = ["--inference_timesteps", "1", "--max_tokens", "1", "--seed", "3"]


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """Folder for one command's files; a function that empties it is its attribute `clear`."""
    folder = tmp_path / "place"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLX_VOXCPM2_VOICES", str(folder / "voices"))
    return folder


def cleared(folder: Path) -> None:
    for entry in folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def contents(folder: Path) -> dict[str, bytes]:
    """Files below a folder, hidden ones too."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_folder_is_the_old_or_the_new_one_and_stands_alone_after_the_next_run(
    place, monkeypatch, exchanges
):
    if not exchanges:
        monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    old, new = {"a": b"old", "b": b"old"}, {"a": b"new", "c": b"new"}
    target = place / "target"

    def write(content: dict[str, bytes]) -> None:
        with files.claimed(target, ""), files.atomic_folder(target) as folder:
            for name, data in content.items():
                (folder / name).write_bytes(data)

    def prepare() -> None:
        cleared(place)
        write(old)

    for _ in kill_at_each_change(place, prepare, lambda: write(new), 5):
        with files.claimed(target, ""):  # the next run, which may fail before it writes
            assert contents(place) in (
                {f"target/{name}": data for name, data in each.items()} for each in (old, new)
            )
        write(new)
        assert contents(place) == {"target/a": b"new", "target/c": b"new"}


def test_a_file_is_the_old_or_the_new_one(place):
    def prepare() -> None:
        cleared(place)
        write_audio("a.wav", TONE, 48_000)

    for _ in kill_at_each_change(place, prepare, lambda: write_audio("a.wav", -TONE, 48_000), 3):
        audio, _ = soundfile.read("a.wav")
        assert np.abs(np.abs(audio) - np.abs(TONE)).max() < 1e-4
        with files.claimed(place / "a.wav", ""):
            assert os.listdir() == ["a.wav"]


def test_a_stream_is_a_valid_file_at_every_moment(place):
    def stream() -> None:
        with GrowingFile("a.wav", 48_000) as file:
            for _ in range(3):
                file.write(TONE)

    for _ in kill_at_each_change(place, lambda: cleared(place), stream):
        if os.path.exists("a.wav"):
            assert len(soundfile.read("a.wav")[0]) % len(TONE) == 0
        with files.claimed(place / "a.wav", ""):
            assert os.listdir() in ([], ["a.wav"])


def test_a_killed_conversion_leaves_a_whole_checkpoint(make_case, place):
    source = make_case("mup").folder
    convert(source, "fresh")
    fresh = contents(place / "fresh")

    def prepare() -> None:
        cleared(place)
        shutil.copytree(source, "target")

    def again() -> None:
        convert(source, "target", overwrite=True)

    for _ in kill_at_each_change(place, prepare, again, 15, step=7):
        assert contents(place / "target") in (fresh, contents(source))
        again()
        assert os.listdir() == ["target"] and contents(place / "target") == fresh


def test_a_killed_save_leaves_a_whole_adapter(place):
    stored = read_adapter(Path(__file__).parent / "golden" / "adapters" / "ours")

    def save() -> None:
        save_adapter("adapter", stored.tensors, stored.settings, overwrite=True)

    for _ in kill_at_each_change(place, lambda: cleared(place), save):
        save()
        assert os.listdir() == ["adapter"]
        assert read_adapter("adapter").settings == stored.settings


def test_a_killed_save_leaves_a_whole_voice_or_none(place, anna_folder):
    from mlx_voxcpm2 import Voice

    voice = Voice.load(anna_folder / "voices" / "anna.safetensors")
    for _ in kill_at_each_change(place, lambda: cleared(place), lambda: voice.save("anna")):
        voice.save("anna", overwrite=True)
        assert Voice.load("anna").reference_seconds == voice.reference_seconds
        assert list(contents(place)) == ["voices/anna.safetensors"]


@pytest.fixture
def loaded(released, monkeypatch):
    for module in (generate, batch):
        monkeypatch.setattr(module, "load", lambda choice: released.model)
    return ["--model", str(released.folder), *QUICK]


def test_a_killed_book_becomes_the_same_file(place, loaded):
    Path("book.txt").write_text("One here.\n\nTwo there.")
    book = [*loaded, "--text_file", "book.txt", "--output", "book.wav", "--subtitles", "book.srt"]
    assert generate.main(book) == 0
    whole = contents(place)

    def prepare() -> None:
        cleared(place)
        Path("book.txt").write_text("One here.\n\nTwo there.")

    for _ in kill_at_each_change(place, prepare, lambda: generate.main(book), 15, step=4):
        assert generate.main(book) == 0
        assert contents(place) == whole


def test_a_killed_batch_becomes_the_same_folder(place, loaded):
    lines = [{"text": "One.", "id": "a"}, {"text": "Two.", "output": "in/b.wav"}]

    def prepare() -> None:
        cleared(place)
        Path("lines.jsonl").write_text("\n".join(map(json.dumps, lines)))

    command = [*loaded, "--input", "lines.jsonl", "--output_dir", "out", "--batch_size", "1"]
    prepare()
    assert batch.main(command) == 0
    whole = contents(place / "out")
    for _ in kill_at_each_change(place, prepare, lambda: batch.main(command), 8, step=2):
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


@dataclass
class Trained:
    """What `RunFolder.save` needs of a trainer."""

    step: int
    state: dict


def test_a_killed_training_run_has_its_checkpoints_and_its_link(place):
    settings = {"model": "a", "weights": "b"}

    def train(last: int) -> None:
        folder = RunFolder(place / "run", settings)
        try:
            done = 0 if folder.latest is None else int(folder.latest.name[5:])
            folder.prune(2)
            for step in range(done + 1, last + 1):
                trained = Trained(step, {"m": mx.array([step])})
                folder.save(trained, lambda new: (new / "weights").write_text("w"), 2)
        finally:
            folder.close()

    for _ in kill_at_each_change(place, lambda: cleared(place), lambda: train(3), 40, step=5):
        train(3)
        names = sorted(os.listdir(place / "run"))
        assert names == [".lock", "latest", "settings.json", "step_0000002", "step_0000003"]
        assert os.readlink(place / "run" / "latest") == "step_0000003"
        assert sorted(os.listdir("run/step_0000002")) == ["training_state.json", "weights"]


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


def test_the_unfinished_file_of_a_running_process_stays(place):
    with files.unfinished_file(place / "a.wav") as (_, path):
        files.remove_leftovers(place)
        assert path.exists()
        stale = path.with_name(".a.wav.00000000.unfinished")
        stale.touch()
        (place / ".b.wav.00000000.unfinished").touch()
        with files.claimed(place / "a.wav", ""):
            assert path.exists() and not stale.exists()
        assert (place / ".b.wav.00000000.unfinished").exists()


def test_training_on_a_full_disk_is_a_one_line_error(
    released, training_data, place, monkeypatch, capfd
):
    from mlx_voxcpm2.commands import train

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    run = training_arguments(released.folder, training_data, place / "run")
    monkeypatch.setattr("mlx_voxcpm2.training.run_folder.sync_file", full)
    assert train.main(run, prog="train") == 2
    message = capfd.readouterr().err.splitlines()[-1]
    assert message.startswith("train: ") and "No space left on device" in message
