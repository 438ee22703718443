"""Commands that are killed at any change of a file: content right, and nothing left behind."""

import errno
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import soundfile
from crashes import cleared, contents, kill_at_each_change
from training_runs import arguments as training_arguments

from mlx_voxcpm2 import files
from mlx_voxcpm2.audio.streams import GrowingFile
from mlx_voxcpm2.audio.writing import write_audio
from mlx_voxcpm2.convert import convert
from mlx_voxcpm2.training.run_folder import RunFolder
from mlx_voxcpm2.weights.adapter_files import read_adapter, save_adapter

TONE = np.sin(np.arange(9600) / 9).astype(np.float32) / 2


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


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), 12])
def test_a_killed_conversion_leaves_a_whole_checkpoint(make_case, place, step):
    source = make_case("mup").folder
    convert(source, "fresh")
    fresh = contents(place / "fresh")

    def prepare() -> None:
        cleared(place)
        shutil.copytree(source, "target")

    def again() -> None:
        convert(source, "target", overwrite=True)

    for _ in kill_at_each_change(place, prepare, again, 15, step):
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

    for _ in kill_at_each_change(place, lambda: cleared(place), lambda: train(3), 40):
        train(3)
        names = sorted(os.listdir(place / "run"))
        assert names == [".lock", "latest", "settings.json", "step_0000002", "step_0000003"]
        assert os.readlink(place / "run" / "latest") == "step_0000003"
        assert sorted(os.listdir("run/step_0000002")) == ["training_state.json", "weights"]


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
