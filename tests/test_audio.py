"""Reading audio: every source gives librosa's samples, every fault a one-line error."""

import io
import re
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import soundfile

from mlx_voxcpm2.audio.decoding import Limit
from mlx_voxcpm2.audio.reading import check_audio, read_audio, resample

GOLDEN = np.load(Path(__file__).parent / "golden" / "audio.npz")
TONE = (0.5 * np.sin(np.arange(4800) * 0.05)).astype(np.float32)
STEREO = np.stack([TONE, TONE[::-1] / 4], axis=1)
MONO = STEREO.mean(axis=1)


@pytest.fixture
def tone_file(tmp_path):
    path = tmp_path / "tone.wav"
    soundfile.write(path, TONE, 24000, "FLOAT")
    return path


@pytest.mark.parametrize("index", range(len(GOLDEN["cases"])))
def test_a_file_reads_as_librosa_reads_it(index, tmp_path):
    rate, channels, wanted = GOLDEN["cases"][index].tolist()
    soundfile.write(tmp_path / "a.wav", GOLDEN["mono" if channels == 1 else "stereo"], rate)
    expected = GOLDEN[f"case_{index}"]
    samples = read_audio(tmp_path / "a.wav", wanted)
    assert samples.dtype == np.float32
    assert samples.shape == expected.shape
    np.testing.assert_allclose(samples, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("suffix", ["wav", "flac", "aiff", "ogg", "mp3"])
def test_every_format_is_read(suffix, tmp_path):
    path = tmp_path / f"tone.{suffix}"
    soundfile.write(path, TONE, 24000)
    lossless = suffix in ("wav", "flac", "aiff")
    samples = read_audio(path, 24000)[: len(TONE)]
    np.testing.assert_allclose(samples, TONE, rtol=0, atol=1e-4 if lossless else 0.05)


def test_paths_bytes_and_file_objects_read_the_same(tone_file, monkeypatch):
    monkeypatch.setenv("HOME", str(tone_file.parent))
    data = tone_file.read_bytes()
    for source in (
        str(tone_file),
        tone_file,
        "~/tone.wav",
        data,
        bytearray(data),
        io.BytesIO(data),
    ):
        np.testing.assert_array_equal(read_audio(source, 24000), TONE)


def test_a_file_object_is_read_from_its_position_and_left_open(tone_file):
    file = io.BytesIO(b"something else" + tone_file.read_bytes())
    file.seek(len(b"something else"))
    np.testing.assert_array_equal(read_audio(file, 24000), TONE)
    assert not file.closed


def test_a_file_s_beginning_tells_whether_it_can_be_read(tone_file, tmp_path):
    check_audio(tone_file)
    long = tmp_path / "long.flac"
    soundfile.write(long, np.tile(TONE, 50), 24000)
    long.write_bytes(long.read_bytes()[:-100])  # found out where the whole is read only
    check_audio(long)
    with pytest.raises(ValueError, match=r"lost sync|cut short"):
        read_audio(long, 24000)
    tone_file.write_bytes(b"RIFF of nothing")
    with pytest.raises(ValueError, match=r"^talk: .* cannot be read as audio"):
        check_audio(tone_file, "talk")
    with pytest.raises(FileNotFoundError, match="no file"):
        check_audio(tmp_path / "none.wav")
    with pytest.raises(ValueError, match="more than 1 s of sound"):
        check_audio(long, limit=Limit(1.0))
    check_audio("/dev/null")  # as a pipe, whose content would be gone


def test_a_wav_of_unknown_length_is_read(tone_file):
    data = bytearray(tone_file.read_bytes())
    data[4:8] = b"\xff" * 4
    size = data.index(b"data") + 4
    data[size : size + 4] = b"\xff" * 4
    np.testing.assert_array_equal(read_audio(bytes(data), 24000), TONE)


@pytest.mark.parametrize(
    "samples",
    [TONE, TONE.astype(np.float64), TONE.tolist(), TONE[:, None], TONE[None], mx.array(TONE)],
    ids=["float32", "float64", "list", "column", "row", "mlx"],
)
def test_float_arrays_are_used_unchanged(samples):
    np.testing.assert_array_equal(read_audio((samples, np.int64(24000)), 24000), TONE)


def test_the_longer_axis_of_an_array_is_time():
    np.testing.assert_array_equal(read_audio((STEREO, 24000), 24000), MONO)
    np.testing.assert_array_equal(read_audio((STEREO.T, 24000), 24000), MONO)


@pytest.mark.parametrize(
    ("dtype", "subtype"), [("uint8", "PCM_U8"), ("int16", "PCM_16"), ("int32", "PCM_32")]
)
def test_integer_arrays_are_scaled_as_in_files(dtype, subtype, tmp_path):
    limits = np.iinfo(dtype)
    integers = np.linspace(limits.min, limits.max, 1000).astype(dtype)
    whole = integers.astype(np.int64) - (128 if dtype == "uint8" else 0)
    wide = (whole << (32 - limits.bits)).astype(np.int32)
    soundfile.write(tmp_path / "a.wav", wide, 24000, subtype)
    samples = read_audio((integers, 24000), 24000)
    np.testing.assert_array_equal(samples, read_audio(tmp_path / "a.wav", 24000))
    assert samples.min() == -1 and 0.99 < samples.max() <= 1


def test_an_array_is_not_changed_and_not_shared():
    samples = TONE.copy()
    read_audio((samples, 24000), 24000)[:] = 7
    np.testing.assert_array_equal(samples, TONE)


def test_resampling_keeps_a_tone_and_its_duration():
    tone = np.sin(2 * np.pi * 440 * np.arange(44100) / 44100).astype(np.float32)
    expected = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    resampled = resample(tone, 44100, 16000)
    assert resampled.shape == (16000,)
    np.testing.assert_allclose(resampled[1000:-1000], expected[1000:-1000], atol=1e-4)


def test_a_single_sample_is_audio():
    assert read_audio((np.ones(1, np.float32), 48000), 16000).shape == (1,)


class TwoLines:
    def __array__(self, *arguments, **options):
        raise TypeError("on a GPU\nmove it")


def refusals(folder: Path) -> dict[str, tuple]:
    """Invalid sources by name: (source, type of the error, words of its message)."""
    files = {"empty.wav": b"", "text.wav": b"words " * 99, "line\nbreak.wav": b"?"}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "folder.wav").mkdir()
    soundfile.write(folder / "no_samples.wav", np.zeros(0), 24000)
    soundfile.write(folder / "nan.wav", np.array([0, np.nan]), 24000, "FLOAT")
    soundfile.write(folder / "slow.wav", np.zeros(9), 7)
    soundfile.write(folder / "cut.flac", np.random.default_rng(0).normal(size=9999), 24000)
    with open(folder / "cut.flac", "r+b") as file:
        file.truncate(5000)
    write_only = open(folder / "write_only.wav", "wb")
    write_only.close()
    return {
        "missing": (folder / "x.wav", FileNotFoundError, "no file .*x.wav.*check the path"),
        "below a file": (folder / "text.wav" / "x", FileNotFoundError, "no file"),
        "no name": ("", FileNotFoundError, "no file ''"),
        "zero byte": ("a\0.wav", ValueError, "null"),
        "long name": ("x" * 999, ValueError, "cannot be read"),
        "folder": (folder / "folder.wav", ValueError, "is a folder"),
        "empty file": (folder / "empty.wav", ValueError, "empty.wav' is empty"),
        "text": (str(folder / "text.wav"), ValueError, "cannot be read as audio.*convert it"),
        "line break": (folder / "line\nbreak.wav", ValueError, "cannot be read as audio"),
        "cut": (folder / "cut.flac", ValueError, "cannot be read as audio"),
        "no samples": (folder / "no_samples.wav", ValueError, "no samples"),
        "nan": (folder / "nan.wav", ValueError, "NaN"),
        "slow": (folder / "slow.wav", ValueError, "7 Hz.*1000 to 1000000"),
        "url": ("https://host/a.wav", ValueError, "is a URL; download it"),
        "url path": (Path("https://host/a.wav"), ValueError, "is a URL; download it"),
        "no bytes": (b"", ValueError, "is empty"),
        "bytes": (b"words", ValueError, "cannot be read as audio"),
        "text file": (io.StringIO("a"), ValueError, "mode 'rb'"),
        "closed file": (write_only, ValueError, "mode 'rb'"),
        "number": (5, ValueError, "type int; give a path"),
        "array alone": (TONE, ValueError, r"type ndarray; give .*\(samples, sample_rate\)"),
        "triple": ((TONE, 24000, 1), ValueError, r"give \(samples, sample_rate\)"),
        "wrong order": ((24000, TONE), ValueError, r"give \(samples, sample_rate\)"),
        "rate zero": ((TONE, 0), ValueError, "0 Hz"),
        "rate below zero": ((TONE, -16000), ValueError, "-16000 Hz"),
        "rate absurd": ((TONE, 10**9), ValueError, "1000000000 Hz"),
        "rate float": ((TONE, 16000.0), ValueError, "16000.0"),
        "rate text": ((TONE, "16000"), ValueError, "type str"),
        "no array": ((None, 16000), ValueError, "shape"),
        "empty array": ((np.zeros((0, 2)), 16000), ValueError, "no samples"),
        "cube": ((np.zeros((1, 2, 3)), 16000), ValueError, r"shape \(1, 2, 3\)"),
        "ragged": (([[0.0], [0.0, 1.0]], 16000), ValueError, "numpy cannot take"),
        "bfloat16": ((mx.zeros(9, mx.bfloat16), 16000), ValueError, "convert them to float32"),
        "two lines": ((TwoLines(), 16000), ValueError, r"\(on a GPU move it\); convert"),
        "int64": ((np.zeros(9, np.int64), 16000), ValueError, "type int64; give floats, int16"),
        "bool": ((np.zeros(9, bool), 16000), ValueError, "type bool"),
        "complex": ((np.zeros(9, complex), 16000), ValueError, "type complex"),
        "nan array": ((np.array([0, np.nan]), 16000), ValueError, "NaN"),
        "infinite array": ((np.array([0, np.inf]), 16000), ValueError, "infinite"),
        "beyond float32": ((np.array([0, 1e300]), 16000), ValueError, "infinite"),
    }


def test_invalid_sources_are_refused_in_one_line(tmp_path):
    for what, (source, error, words) in refusals(tmp_path).items():
        with pytest.raises(error) as caught:
            read_audio(source, 16000, "ref_audio")
        message = str(caught.value)
        assert message.startswith("ref_audio: ") and "\n" not in message, what
        assert re.search(words, message), f"{what}: {message}"


def test_a_file_that_may_not_be_read_is_refused_in_one_line(tone_file, monkeypatch):
    def forbidden(*arguments):
        raise PermissionError(13, "Permission denied", str(tone_file))

    monkeypatch.setattr("builtins.open", forbidden)  # the superuser may read everything
    with pytest.raises(PermissionError, match=r"^ref_audio: '.*tone.wav' may not be read; .*$"):
        read_audio(tone_file, 16000, "ref_audio")
