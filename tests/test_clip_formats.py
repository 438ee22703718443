"""Clips in any format that people have, and the limits within which they are read."""

import io
import os
import struct
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mlx_voxcpm2.audio import decoding, media
from mlx_voxcpm2.audio.encoding import StreamEncoder
from mlx_voxcpm2.audio.reading import read_audio, read_channels

RATE = 48_000
TONE = (0.3 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)).astype(np.float32)


def encoded(container: str, subtype: str | None = None, samples=TONE, rate=RATE, **settings):
    file = io.BytesIO()
    with soundfile.SoundFile(
        file, "w", rate, samples[0].size, subtype, format=container, **settings
    ) as writer:
        for start in range(0, len(samples), 16_384):
            writer.write(samples[start : start + 16_384])
    return file.getvalue()


def with_av(container: str, codec: str, rate: int = RATE, video: bool = False) -> bytes:
    """A file of the tone, encoded by FFmpeg."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        if video:
            picture = output.add_stream("mpeg4", rate=10, width=64, height=64, pix_fmt="yuv420p")
        stream = output.add_stream(codec, rate=rate, layout="mono")
        if video:
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))
            output.mux(picture.encode(frame.reformat(format="yuv420p")))
            output.mux(picture.encode(None))
        frame = av.AudioFrame.from_ndarray(TONE[None], format="fltp", layout="mono")
        frame.sample_rate = RATE
        context = stream.codec_context
        resampler, queue = av.AudioResampler(context.format, "mono", rate), av.AudioFifo()
        for part in resampler.resample(frame) + resampler.resample(None):
            queue.write(part)
        for part in queue.read_many(context.frame_size or 1024, codec != "libopencore_amrnb"):
            output.mux(stream.encode(part))
        output.mux(stream.encode(None))
    return file.getvalue()


def pitch(samples: np.ndarray, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(spectrum.argmax() * rate / len(samples))


@pytest.mark.parametrize(
    ("container", "codec", "rate"),
    [
        ("ipod", "aac", RATE),
        ("ipod", "alac", RATE),
        ("mp4", "aac", RATE),
        ("3gp", "aac", 16_000),
        ("webm", "libopus", RATE),
        ("matroska", "aac", RATE),
        ("adts", "aac", RATE),
        ("amr", "libopencore_amrnb", 8_000),
        ("asf", "wmav1", RATE),
        ("mpegts", "aac", RATE),
        ("avi", "ac3", RATE),
    ],
)
def test_clips_of_phones_browsers_and_cameras_are_read(container, codec, rate):
    try:
        data = with_av(container, codec, rate, video=container in ("matroska", "avi"))
    except Exception as error:
        pytest.skip(f"this FFmpeg does not write {codec}: {error}")
    samples, its_rate = read_channels(data)
    assert its_rate == rate and samples.shape[1] == 1
    assert abs(len(samples) / rate - 1) < 0.1
    assert abs(pitch(samples[:, 0], rate) - 440) < 3
    assert 0.2 < np.abs(samples[2000:-2000]).max() < 0.45


def test_without_pyav_one_line_names_the_extra(monkeypatch):
    data = with_av("ipod", "aac")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ValueError, match=r"^ref_audio: .*mp4.* need 'mlx-voxcpm2\[media\]'"):
        read_audio(data, RATE, "ref_audio")


def test_a_playlist_opens_no_other_file(tmp_path):
    """FFmpeg reads lists of addresses, too, which a client of a server must not choose."""
    (tmp_path / "secret.m4a").write_bytes(with_av("ipod", "aac"))
    lists = [f"ffconcat version 1.0\nfile '{tmp_path}/secret.m4a'\n"]
    lists += [f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{tmp_path}/secret.m4a\n"]
    for content in lists:
        with pytest.raises(ValueError, match="cannot be read as audio"):
            read_audio(content.encode(), RATE)


def test_streamed_files_without_a_length_are_read_to_their_end():
    flac = bytearray(encoded("FLAC"))
    flac[21] &= 0xF0
    flac[22:26] = bytes(4)  # with the bits above, the number of samples
    np.testing.assert_array_equal(read_audio(bytes(flac), RATE), read_audio(encoded("FLAC"), RATE))
    whole, wav = read_audio(encoded("WAV"), RATE), bytearray(encoded("WAV"))
    for length in (0, 1, 0x7FFFFFFF, 0xFFFFFFFF):
        wav[4:8] = struct.pack("<I", length)
        wav[40:44] = struct.pack("<I", length if length != 1 else 0)
        np.testing.assert_array_equal(read_audio(bytes(wav), RATE), whole)


@pytest.mark.parametrize("name", ["wav", "flac", "mp3", "opus", "ogg"])
def test_what_our_server_streams_is_read_to_its_end(name):
    encoder = StreamEncoder(name, RATE)
    data = encoder.write(TONE) + encoder.write(TONE, is_last=True)
    assert abs(len(read_audio(data, RATE)) - 2 * RATE) < 3500


@pytest.mark.parametrize(
    ("container", "subtype"),
    [("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"), ("OGG", "OPUS")],
)
def test_joined_files_are_read_to_their_end(container, subtype):
    one = encoded(container, subtype)
    tagged = b"ID3\x04\0\0\0\0\0\x0a" + bytes(10) + one if container == "MP3" else one
    for data, count in ((one, 1), (one * 3, 3), (one + tagged, 2)):
        samples = read_audio(data, RATE)
        assert abs(len(samples) - count * RATE) < 3000 * (count - 1) + 1
        assert np.abs(samples[-RATE // 2 :]).max() > 0.2


def test_an_mp3_of_varying_bit_rate_without_a_length_is_read_to_its_end():
    settings = {"bitrate_mode": "VARIABLE", "compression_level": 0.3}
    quiet_then_loud = np.concatenate([np.zeros(RATE, np.float32), *[TONE] * 3])
    data = encoded("MP3", "MPEG_LAYER_III", quiet_then_loud, **settings)
    at = min(place for tag in (b"Xing", b"Info") if (place := data.find(tag)) >= 0)
    untagged = data[:at] + bytes(4) + data[at + 4 :]
    assert abs(len(read_audio(untagged, RATE)) - 4 * RATE) < 4000


def test_an_mp3_with_a_right_length_is_given_to_libsndfile_as_it_is():
    data = encoded("MP3", "MPEG_LAYER_III")
    np.testing.assert_array_equal(read_audio(data, RATE), soundfile.read(io.BytesIO(data))[0])


def long_silences() -> dict[str, bytes]:
    silence = np.zeros(RATE * 5, np.int16)
    return {
        "flac": encoded("FLAC", "PCM_16", silence),
        "opus": encoded("OGG", "OPUS", silence.astype(np.float32)),
        "wide": encoded("WAV", "PCM_U8", np.zeros((RATE * 2, 64), np.int16)),
    }


def test_a_clip_that_is_too_long_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(decoding, "LONGEST_SECONDS", 3.0)
    monkeypatch.setattr(decoding, "MOST_SAMPLES", 2 * RATE * 3)
    decoded = []
    blocks = decoding._blocks_of
    monkeypatch.setattr(
        decoding, "_blocks_of", lambda source: (decoded.append(1), blocks(source))[1]
    )
    for name, data in long_silences().items():
        with pytest.raises(ValueError, match=r"^ref_audio: more than \d+ s of sound.*cut it"):
            read_audio(data, RATE, "ref_audio")
        assert not decoded, name


def test_a_recording_of_many_channels_or_a_high_rate_is_limited_by_its_seconds_alone():
    limit = replace(decoding.RECORDING, seconds=2.0)
    random = np.random.default_rng(0)
    for rate, channels in ((RATE, 6), (4 * RATE, 2), (2 * RATE, 5), (2 * RATE, 1)):
        sound = np.repeat(0.2 * random.standard_normal((rate // 50, channels)), 50 * 2, axis=0)
        data = encoded("FLAC", "PCM_24", sound, rate)
        samples, found = read_channels(data, limit=limit)
        assert found == RATE and samples.shape == (2 * RATE, min(channels, 2))
        ours, whole = (read_audio(data, 16_000, limit=each) for each in (limit, decoding.Limit(50)))
        assert np.abs(ours - whole).max() < 0.01 * np.abs(whole).max()
        with pytest.raises(ValueError, match="more than 2 s of sound are not read; cut it into"):
            read_audio(encoded("FLAC", "PCM_24", np.tile(sound, (2, 1)), rate), RATE, limit=limit)


def test_an_inverted_channel_of_a_recording_does_not_silence_it():
    sound = np.stack([TONE, -TONE, TONE, -TONE], axis=1)
    samples = read_audio(encoded("WAV", "FLOAT", sound), RATE, limit=decoding.RECORDING)
    np.testing.assert_allclose(samples, TONE, atol=1e-6)


def test_a_header_that_hides_the_length_does_not_lift_the_limit(monkeypatch):
    monkeypatch.setattr(decoding, "LONGEST_SECONDS", 2.0)
    flac = bytearray(encoded("FLAC", None, np.tile(TONE, 5)))
    flac[21] &= 0xF0
    flac[22:26] = bytes(4)
    joined = encoded("MP3", "MPEG_LAYER_III") * 5
    sizes = []
    add = decoding._Blocks.add
    monkeypatch.setattr(
        decoding._Blocks, "add", lambda self, block: (sizes.append(len(block)), add(self, block))
    )
    for data in (bytes(flac), joined, with_av("adts", "aac") * 5):
        sizes.clear()
        with pytest.raises(ValueError, match="more than 2 s of sound"):
            read_audio(data, RATE)
        assert sum(sizes) <= 3 * RATE + decoding._BLOCK


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/urandom"])
def test_devices_without_an_end_are_refused(name, monkeypatch):
    monkeypatch.setattr(decoding, "MOST_SAMPLES", 2**18)
    with pytest.raises(ValueError, match=r"more than 1 MB, or no end"):
        read_audio(name, RATE)
    with open(name, "rb") as file, pytest.raises(ValueError, match=r"more than 1 MB, or no end"):
        read_audio(file, RATE)


def test_a_named_pipe_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    data = encoded("WAV")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe.wav").write_bytes(data))
    writer.start()
    np.testing.assert_array_equal(read_audio(tmp_path / "pipe.wav", RATE), read_audio(data, RATE))
    writer.join()


def test_pyav_is_asked_only_for_what_libsndfile_does_not_know(monkeypatch):
    monkeypatch.setattr(media, "MediaFile", None)
    assert len(read_audio(encoded("WAV", "PCM_U8"), RATE)) == RATE
    cut = encoded("FLAC", None, np.random.default_rng(0).normal(size=RATE) / 9)
    with pytest.raises(ValueError, match="cannot be read as audio"):
        read_audio(cut[: len(cut) // 2], RATE)


def test_a_wav_file_with_chunks_before_its_sound_and_length_0_is_read(tmp_path):
    wav = encoded("WAV")
    note = b"LIST" + struct.pack("<I", 5) + b"notes\0"
    changed = wav[:36] + note + b"data\0\0\0\0" + wav[44:]
    Path(tmp_path / "a.wav").write_bytes(changed)
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav", RATE), read_audio(wav, RATE))


@pytest.mark.parametrize("scale", [32768, 1e30])
def test_samples_far_above_full_scale_are_named(scale):
    """As of a program that stored integers as floating-point numbers."""
    assert np.abs(read_audio(encoded("WAV", "FLOAT", TONE * 8), RATE)).max() > 2
    for source in (encoded("WAV", "FLOAT", TONE * scale), (TONE * np.float32(scale), RATE)):
        with pytest.raises(ValueError, match=r"^ref_audio: samples reach .* full scale is 1"):
            read_audio(source, RATE, "ref_audio")
