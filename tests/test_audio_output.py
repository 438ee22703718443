"""Writing audio: every format, no partial files, one-line errors."""

import io
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import soundfile

from mlx_voxcpm2 import files
from mlx_voxcpm2.audio import streams
from mlx_voxcpm2.audio.formats import FORMATS, output_format
from mlx_voxcpm2.audio.streams import AtomicFile, GrowingFile
from mlx_voxcpm2.audio.writing import check_output, write_audio, write_audio_to

RATE = 48000
TONE = (0.5 * np.sin(np.arange(30_000) * 0.05)).astype(np.float32)
LOSSLESS = {".wav", ".flac", ".aiff", ".aif"}


def as_soundfile_stores(samples: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, "PCM_16", format="WAV")
    return soundfile.read(io.BytesIO(file.getvalue()), dtype="int16")[0]


def only_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_is_written(suffix, tmp_path):
    path = tmp_path / f"tone{suffix.upper()}"
    check_output(path)
    write_audio(path, TONE, RATE)
    assert only_file(tmp_path) == path
    samples, rate = soundfile.read(path)
    assert rate == RATE
    tolerance = 2**-15 if suffix in LOSSLESS else 0.05
    np.testing.assert_allclose(samples[1000:29_000], TONE[1000:29_000], rtol=0, atol=tolerance)
    info = soundfile.info(path)
    assert (info.format, info.subtype) == FORMATS[suffix]


def test_a_wav_file_equals_the_one_that_soundfile_writes(tmp_path):
    samples = np.random.default_rng(0).uniform(-1.2, 1.2, 5000).astype(np.float32)
    write_audio(tmp_path / "ours.wav", samples, RATE)
    soundfile.write(tmp_path / "theirs.wav", samples, RATE)
    assert (tmp_path / "ours.wav").read_bytes() == (tmp_path / "theirs.wav").read_bytes()


def test_lists_and_mlx_arrays_are_written(tmp_path):
    for audio in (TONE.tolist(), mx.array(TONE), TONE.astype(np.float64)):
        write_audio(tmp_path / "a.wav", audio, RATE)
        samples = soundfile.read(tmp_path / "a.wav", dtype="int16")[0]
        np.testing.assert_array_equal(samples, as_soundfile_stores(TONE))


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_samples_beyond_full_scale_are_clipped(suffix, tmp_path):
    write_audio(tmp_path / f"loud{suffix}", np.repeat([2.0, -2.0], 20_000), RATE)
    samples = soundfile.read(tmp_path / f"loud{suffix}")[0]
    assert abs(samples[10_000] - 1) < 0.05 and abs(samples[30_000] + 1) < 0.05


def test_minutes_of_vorbis_do_not_crash(tmp_path):
    # In a single write this ends the process: libsndfile puts it all on the stack.
    script = (
        "import numpy, sys; from mlx_voxcpm2.audio.writing import write_audio;"
        "write_audio(sys.argv[1], numpy.zeros(3_000_000, 'f4'), 48000)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", script, tmp_path / "long.ogg"], env=environment)
    assert soundfile.info(tmp_path / "long.ogg").frames == 3_000_000


def test_a_new_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "usual").touch()
    write_audio(tmp_path / "a.wav", TONE, RATE)
    assert (tmp_path / "a.wav").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_link_is_followed_not_replaced(tmp_path):
    (tmp_path / "link.wav").symlink_to(tmp_path / "real.wav")
    write_audio(tmp_path / "link.wav", TONE, RATE)
    with GrowingFile(tmp_path / "link.wav", RATE) as stream:
        stream.write(TONE[:100])
    assert (tmp_path / "link.wav").is_symlink()
    assert soundfile.info(tmp_path / "real.wav").frames == 100


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_while_writing_leaves_the_old_file_and_nothing_else(
    failure, tmp_path, monkeypatch
):
    def write_half(stream, data):
        stream.write(data[: len(data) // 2])
        raise failure

    (tmp_path / "a.wav").write_bytes(b"old")
    for module in (files, streams):
        monkeypatch.setattr(module, "write_all", write_half)
    with pytest.raises(type(failure)):
        write_audio(tmp_path / "a.wav", TONE, RATE)
    with pytest.raises(type(failure)), GrowingFile(tmp_path / "a.wav", RATE) as stream:
        stream.write(TONE)
    assert only_file(tmp_path).read_bytes() == b"old"


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))
    try:
        with pytest.raises(OSError, match=r"^output: .*a.wav' cannot be .*File too large.*$"):
            write_audio(tmp_path / "a.wav", TONE, RATE)
        with pytest.raises(OSError, match=r"^output: .*a.wav' cannot be .*File too large.*$"):
            with AtomicFile(tmp_path / "a.wav", RATE) as file:
                file.write(TONE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert only_file(tmp_path).read_bytes() == b"old"


def test_audio_that_cannot_be_stored_is_refused_in_one_line(tmp_path):
    for audio, rate, name, words in [
        (np.zeros((2, 9)), RATE, "a.wav", r"shape \(2, 9\)"),
        (np.array([0, np.nan]), RATE, "a.wav", "NaN"),
        (np.zeros(0), RATE, "a.flac", "no samples"),
        (TONE, 44100, "a.opus", "opus at 44100 Hz cannot be written"),
    ]:
        with pytest.raises(ValueError, match=rf"^output: .*{words}.*$"):
            write_audio(tmp_path / name, audio, rate)
    assert not list(tmp_path.iterdir())


def test_the_suffix_names_the_format():
    assert output_format("a/b.c/Speech.WAV") == ".wav"
    for path, words in {"a.m4a": "m4a files", "a": "no suffix", ".wav": "no suffix"}.items():
        with pytest.raises(ValueError, match=rf"^output: .*{words}.*\.wav, \.flac, .*$"):
            output_format(path)


def test_an_unwritable_path_is_an_error_before_generation(tmp_path):
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe.wav")
    before = set(tmp_path.iterdir())
    for path, error, words in [
        (tmp_path / "no" / "a.wav", FileNotFoundError, "no folder .*create it"),
        (tmp_path / "file" / "a.wav", FileNotFoundError, "no folder"),
        (tmp_path / "folder.wav", ValueError, "is a folder"),
        (tmp_path / "pipe.wav", ValueError, "is a device or a pipe"),
        (tmp_path / ("a" * 999 + ".wav"), ValueError, "has 1003 bytes; shorten it to 255"),
        (tmp_path / "a.txt", ValueError, "txt files cannot be written"),
    ]:
        for check in (check_output, lambda path: GrowingFile(path, RATE)):
            with pytest.raises(error, match=rf"^output: .*{words}.*$"):
                check(path)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="not Linux")
def test_a_folder_without_write_access_is_an_error_before_generation():
    with pytest.raises(OSError, match=r"^output: '/proc/a.wav' cannot be written .*$"):
        check_output("/proc/a.wav")


def test_a_protected_file_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a.wav").write_bytes(b"old")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # the superuser may write all
    with pytest.raises(PermissionError, match=r"^output: .*a.wav' may not be changed; .*$"):
        check_output(tmp_path / "a.wav")


def test_a_check_leaves_no_files(tmp_path):
    check_output(tmp_path / "a.wav", stream=True)
    GrowingFile(tmp_path / "a.wav", RATE).close()
    assert not list(tmp_path.iterdir())
    (tmp_path / "a.wav").write_bytes(b"old")
    with GrowingFile(tmp_path / "a.wav", RATE):
        pass
    assert only_file(tmp_path).read_bytes() == b"old"


def test_only_wav_can_stream(tmp_path):
    for suffix in set(FORMATS) - {".wav"}:
        with pytest.raises(ValueError, match=rf"^output: \{suffix} files .*; end .* in \.wav$"):
            check_output(tmp_path / f"a{suffix}", stream=True)


def test_a_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    check_output("~/a.wav")
    write_audio("~/a.wav", TONE, RATE)
    assert only_file(tmp_path).name == "a.wav"


def test_an_open_stream_gets_a_whole_wav_file(tmp_path):
    class Pipe(io.RawIOBase):
        data = b""

        def write(self, data):  # a part of the data, as pipes do
            self.data += bytes(data[:1000])
            return min(len(data), 1000)

    pipe = Pipe()
    write_audio_to(pipe, TONE, RATE)
    write_audio(tmp_path / "a.wav", TONE, RATE)
    assert pipe.data == (tmp_path / "a.wav").read_bytes()


def test_messages_are_one_line(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        check_output(tmp_path / "line\nbreak" / "a.wav")
    assert not re.search("[\r\n]", str(caught.value))


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "opus", "mp3", "aiff"])
def test_chunks_become_a_file_when_all_are_written(tmp_path, suffix):
    sound = np.sin(np.arange(100_000) / 20).astype(np.float32) * 1.1
    write_audio(tmp_path / f"whole.{suffix}", sound, 48000)
    grown = tmp_path / f"grown.{suffix}"
    grown.write_bytes(b"older")
    with AtomicFile(grown, 48000) as file:
        for start in range(0, len(sound), 7680):
            file.write(sound[start : start + 7680])
            assert grown.read_bytes() == b"older" and len(os.listdir(tmp_path)) == 2
    ours, theirs = soundfile.read(grown)[0], soundfile.read(tmp_path / f"whole.{suffix}")[0]
    # Vorbis depends on the size of the writes.
    np.testing.assert_allclose(ours, theirs, atol=0.1 if suffix == "ogg" else 0)
    with pytest.raises(KeyError), AtomicFile(tmp_path / f"new.{suffix}", 48000) as file:
        file.write(sound)
        raise KeyError
    with AtomicFile(tmp_path / f"new.{suffix}", 48000):
        pass
    assert len(os.listdir(tmp_path)) == 2


def test_a_wav_file_that_would_be_too_long_is_refused_in_time(tmp_path):
    with AtomicFile(tmp_path / "a.wav", 48000) as file:
        file._data_bytes = 2**32 - 100
        with pytest.raises(ValueError, match="ends at 4 GB; write a FLAC"):
            file.write(np.zeros(100, np.float32))
