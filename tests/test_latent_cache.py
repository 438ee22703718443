"""Cached latents equal those that encoding gives, and are never another clip's or model's."""

import dataclasses
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import mlx.core as mx
import numpy as np
import pytest
import soundfile
from safetensors.numpy import load_file, save_file

from mlx_voxcpm2 import load_model
from mlx_voxcpm2.training.latents import LatentCache
from mlx_voxcpm2.voices.clip_encoder import ClipEncoder


class Counted:
    """Model that records the clips that it encodes."""

    def __init__(self, model):
        self.model, self.encoded = model, []

    def __getattr__(self, name):
        return getattr(self.model, name)

    def encode_audio(self, path):
        self.encoded.append(path)
        return self.model.encode_audio(path)


@pytest.fixture
def model(released) -> Counted:
    return Counted(released.model)


@pytest.fixture
def clip(tmp_path, released):
    path = tmp_path / "clip.wav"
    soundfile.write(path, *released.waveform("ref"), "FLOAT")
    return path


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "new" / "latents"


def entries(folder) -> list:
    return sorted(folder.iterdir())


def test_a_clip_is_encoded_once(model, clip, folder):
    expected = model.model.encode_audio(clip)
    for _ in range(2):
        patches = LatentCache(folder, model)(clip)
        assert patches.dtype == mx.float32
        assert mx.array_equal(patches, expected)
    assert len(model.encoded) == 1


def test_the_key_is_the_clips_content_not_its_name(model, clip, folder):
    cache = LatentCache(folder, model)
    first = cache(clip)
    copy = clip.rename(clip.with_name("other.wav"))
    assert mx.array_equal(cache(copy), first) and len(model.encoded) == 1
    samples, rate = soundfile.read(copy)
    samples[-2000:] *= -1  # also where only the end differs
    soundfile.write(copy, samples, rate, "FLOAT")
    assert mx.array_equal(cache(copy), model.model.encode_audio(copy))
    assert not mx.array_equal(cache(copy), first)
    assert len(model.encoded) == 2 and len(entries(folder)) == 2


def test_another_encoder_or_patch_size_is_another_entry(model, clip, folder, released, make_case):
    first = LatentCache(folder, model)(clip)
    same = Counted(load_model(released.folder, dtype="bfloat16"))
    assert mx.array_equal(LatentCache(folder, same)(clip), first)
    assert not same.encoded

    changed = Counted(load_model(released.folder, dtype="float32"))
    bias = changed.audio_vae.encoder.fc_mu.bias
    changed.audio_vae.encoder.fc_mu.bias = bias + mx.array([1e-3] + [0] * (bias.size - 1))
    assert mx.array_equal(LatentCache(folder, changed)(clip), changed.model.encode_audio(clip))
    assert changed.encoded == [clip]

    other = Counted(make_case("mup").model)
    assert LatentCache(folder, other)(clip).shape[1:] == (other.config.patch_size, 16)
    assert mx.array_equal(LatentCache(folder, model)(clip), first)
    assert len(entries(folder)) == 3 and len(model.encoded) == 1


def test_the_patch_size_alone_is_another_entry(model, clip, folder, released):
    LatentCache(folder, model)(clip)
    other = Counted(load_model(released.folder, dtype="float32"))
    other.model.config = dataclasses.replace(other.config, patch_size=2)
    other.model.clip_encoder = ClipEncoder(other.config, other.audio_vae)
    assert LatentCache(folder, other)(clip).shape[1:] == (2, 16)
    assert len(entries(folder)) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(file.read_bytes()[:-1]),
        lambda file: file.write_bytes(os.urandom(200)),
        lambda file: save_file({"other": load_file(file)["patches"]}, file),
        lambda file: save_file({"patches": load_file(file)["patches"][:, :1]}, file),
        lambda file: save_file({"patches": load_file(file)["patches"][:0]}, file),
        lambda file: save_file({"patches": load_file(file)["patches"].astype("f2")}, file),
        lambda file: save_file({"patches": load_file(file)["patches"] * np.float32("nan")}, file),
    ],
    ids=["empty", "cut", "garbage", "name", "shape", "no patches", "type", "not finite"],
)
def test_a_damaged_entry_is_computed_again(damage, model, clip, folder):
    cache = LatentCache(folder, model)
    expected = cache(clip)
    [entry] = entries(folder)
    damage(entry)
    assert mx.array_equal(cache(clip), expected)
    assert mx.array_equal(cache(clip), expected)
    assert len(model.encoded) == 2 and entries(folder) == [entry]


@pytest.mark.parametrize("call", ["pathlib.Path.write_bytes", "os.replace"])
def test_an_interruption_leaves_no_entry(call, model, clip, folder, monkeypatch):
    cache = LatentCache(folder, model)

    def interrupted(path, what):
        if call != "os.replace":
            path.open("wb").write(what[: len(what) // 2])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(call, interrupted)
        cache(clip)
    assert entries(folder) == []
    assert mx.array_equal(cache(clip), model.model.encode_audio(clip))


def test_a_kill_leaves_no_entry_that_would_be_used(model, clip, folder, released):
    """The process ends between writing and renaming."""
    script = (
        "import os, sys; from mlx_voxcpm2 import load_model; "
        "from mlx_voxcpm2.training.latents import LatentCache; "
        "os.replace = lambda *names: os._exit(7); "
        "LatentCache(sys.argv[1], load_model(sys.argv[2], dtype='float32'))(sys.argv[3])"
    )
    done = subprocess.run([sys.executable, "-c", script, folder, released.folder, clip])
    assert done.returncode == 7
    [left] = entries(folder)
    cache = LatentCache(folder, model)
    assert mx.array_equal(cache(clip), model.model.encode_audio(clip))
    assert model.encoded == [clip] and set(entries(folder)) > {left}


def test_filling_encodes_every_clip_once(model, clip, folder, capsys):
    clips = [clip]
    for seconds in (0.1, 0.5):
        clips.append(clip.with_name(f"{seconds}.wav"))
        soundfile.write(clips[-1], np.full(int(seconds * 16000), 0.1), 16000)
    cache = LatentCache(folder, model)
    cache.fill([*clips, clips[0], str(clips[1])])
    assert model.encoded == clips and len(entries(folder)) == 3
    cache.fill(reversed(clips))
    for path in clips:
        assert mx.array_equal(cache(path), model.model.encode_audio(path))
    assert len(model.encoded) == 3
    assert capsys.readouterr().err == ""  # the bar is for terminals


def test_latents_can_be_used_by_another_thread(model, clip, folder):
    cache = LatentCache(folder, model)
    for _ in range(2):
        with ThreadPoolExecutor(1) as thread:
            patches = thread.submit(cache, clip).result()
        assert mx.isfinite(patches).all().item()


def test_a_clip_or_folder_that_cannot_be_used_is_named(model, clip, folder):
    cache = LatentCache(folder, model)
    with pytest.raises(FileNotFoundError, match=r"no\.wav.*; check the path$"):
        cache(clip.with_name("no.wav"))
    bad = clip.with_name("bad.wav")
    bad.write_text("speech")
    with pytest.raises(ValueError, match=r"bad\.wav.*cannot be read as audio"):
        cache(bad)
    assert entries(folder) == []
    with pytest.raises(OSError, match=rf"^{clip}: no folder for latents .*; choose another place$"):
        LatentCache(clip, model)
    folder.rmdir()
    with pytest.raises(OSError, match=rf"^{folder}: latents can't be saved here .*another place$"):
        cache(clip)
