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
def counted_model(released) -> Counted:
    return Counted(released.model)


@pytest.fixture
def cache_folder(tmp_path):
    return tmp_path / "new" / "latents"


def entries(folder) -> list:
    return sorted(folder.iterdir())


def test_a_clip_is_encoded_once(counted_model, reference_clip, cache_folder):
    expected = counted_model.model.encode_audio(reference_clip)
    for _ in range(2):
        patches = LatentCache(cache_folder, counted_model)(reference_clip)
        assert patches.dtype == mx.float32
        assert mx.array_equal(patches, expected)
    assert len(counted_model.encoded) == 1


def test_the_key_is_the_clips_content_not_its_name(counted_model, reference_clip, cache_folder):
    cache = LatentCache(cache_folder, counted_model)
    first = cache(reference_clip)
    copy = reference_clip.rename(reference_clip.with_name("other.wav"))
    assert mx.array_equal(cache(copy), first) and len(counted_model.encoded) == 1
    samples, rate = soundfile.read(copy)
    samples[-2000:] *= -1  # also where only the end differs
    soundfile.write(copy, samples, rate, "FLOAT")
    assert mx.array_equal(cache(copy), counted_model.model.encode_audio(copy))
    assert not mx.array_equal(cache(copy), first)
    assert len(counted_model.encoded) == 2 and len(entries(cache_folder)) == 2


def test_another_encoder_or_patch_size_is_another_entry(
    counted_model, reference_clip, cache_folder, released, make_case
):
    first = LatentCache(cache_folder, counted_model)(reference_clip)
    same = Counted(load_model(released.folder, dtype="bfloat16"))
    assert mx.array_equal(LatentCache(cache_folder, same)(reference_clip), first)
    assert not same.encoded

    changed = Counted(load_model(released.folder, dtype="float32"))
    bias = changed.audio_vae.encoder.fc_mu.bias
    changed.audio_vae.encoder.fc_mu.bias = bias + mx.array([1e-3] + [0] * (bias.size - 1))
    latents = LatentCache(cache_folder, changed)(reference_clip)
    assert mx.array_equal(latents, changed.model.encode_audio(reference_clip))
    assert changed.encoded == [reference_clip]

    other = Counted(make_case("mup").model)
    shape = LatentCache(cache_folder, other)(reference_clip).shape
    assert shape[1:] == (other.config.patch_size, 16)
    assert mx.array_equal(LatentCache(cache_folder, counted_model)(reference_clip), first)
    assert len(entries(cache_folder)) == 3 and len(counted_model.encoded) == 1


def test_the_patch_size_alone_is_another_entry(
    counted_model, reference_clip, cache_folder, released
):
    LatentCache(cache_folder, counted_model)(reference_clip)
    other = Counted(load_model(released.folder, dtype="float32"))
    other.model.config = dataclasses.replace(other.config, patch_size=2)
    other.model.clip_encoder = ClipEncoder(other.config, other.audio_vae)
    assert LatentCache(cache_folder, other)(reference_clip).shape[1:] == (2, 16)
    assert len(entries(cache_folder)) == 2


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
def test_a_damaged_entry_is_computed_again(damage, counted_model, reference_clip, cache_folder):
    cache = LatentCache(cache_folder, counted_model)
    expected = cache(reference_clip)
    [entry] = entries(cache_folder)
    damage(entry)
    assert mx.array_equal(cache(reference_clip), expected)
    assert mx.array_equal(cache(reference_clip), expected)
    assert len(counted_model.encoded) == 2 and entries(cache_folder) == [entry]


@pytest.mark.parametrize("call", ["mlx_voxcpm2.files.write_all", "os.replace"])
def test_an_interruption_leaves_no_entry(
    call, counted_model, reference_clip, cache_folder, monkeypatch
):
    cache = LatentCache(cache_folder, counted_model)

    def interrupted(file, what):
        if call != "os.replace":
            file.write(what[: len(what) // 2])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(call, interrupted)
        cache(reference_clip)
    assert entries(cache_folder) == []
    assert mx.array_equal(cache(reference_clip), counted_model.model.encode_audio(reference_clip))


def test_a_kill_leaves_no_entry_that_would_be_used(
    counted_model, reference_clip, cache_folder, released
):
    """The process ends between writing and renaming."""
    script = (
        "import os, sys; from mlx_voxcpm2 import load_model; "
        "from mlx_voxcpm2.training.latents import LatentCache; "
        "os.replace = lambda *names: os._exit(7); "
        "LatentCache(sys.argv[1], load_model(sys.argv[2], dtype='float32'))(sys.argv[3])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, cache_folder, released.folder, reference_clip]
    )
    assert done.returncode == 7
    [left] = entries(cache_folder)
    cache = LatentCache(cache_folder, counted_model)
    assert mx.array_equal(cache(reference_clip), counted_model.model.encode_audio(reference_clip))
    assert counted_model.encoded == [reference_clip] and left not in entries(cache_folder)


def test_filling_encodes_every_clip_once(counted_model, reference_clip, cache_folder, capsys):
    clips = [reference_clip]
    for seconds in (0.1, 0.5):
        clips.append(reference_clip.with_name(f"{seconds}.wav"))
        soundfile.write(clips[-1], np.full(int(seconds * 16000), 0.1), 16000)
    cache = LatentCache(cache_folder, counted_model)
    cache.fill([*clips, clips[0], str(clips[1])])
    assert counted_model.encoded == clips and len(entries(cache_folder)) == 3
    cache.fill(reversed(clips))
    for path in clips:
        assert mx.array_equal(cache(path), counted_model.model.encode_audio(path))
    assert len(counted_model.encoded) == 3
    assert capsys.readouterr().err == ""  # the bar is for terminals


def test_latents_can_be_used_by_another_thread(counted_model, reference_clip, cache_folder):
    cache = LatentCache(cache_folder, counted_model)
    for _ in range(2):
        with ThreadPoolExecutor(1) as thread:
            patches = thread.submit(cache, reference_clip).result()
        assert mx.isfinite(patches).all().item()


def test_a_clip_or_folder_that_cannot_be_used_is_named(counted_model, reference_clip, cache_folder):
    cache = LatentCache(cache_folder, counted_model)
    with pytest.raises(FileNotFoundError, match=r"no\.wav.*; check the path$"):
        cache(reference_clip.with_name("no.wav"))
    bad = reference_clip.with_name("bad.wav")
    bad.write_text("speech")
    with pytest.raises(ValueError, match=r"bad\.wav.*cannot be read as audio"):
        cache(bad)
    assert entries(cache_folder) == []
    line = rf"^{reference_clip}: no folder for latents .*; choose another place$"
    with pytest.raises(OSError, match=line):
        LatentCache(reference_clip, counted_model)
    cache_folder.rmdir()
    line = rf"^{cache_folder}: latents can't be saved here .*another place$"
    with pytest.raises(OSError, match=line):
        cache(reference_clip)
