"""Streaming audio: a file that is whole at every moment, a pipe that gets every chunk at once."""

import io
import os
import random
import resource
import subprocess
import sys
import threading
import wave

import numpy as np
import pytest
import soundfile

from mlx_voxcpm2.audio import streams
from mlx_voxcpm2.audio.streams import GrowingFile, PipeStream
from mlx_voxcpm2.audio.writing import write_audio

RATE = 48000
TONE = (0.5 * np.sin(np.arange(30_000) * 0.05)).astype(np.float32)
CHUNKS = np.array_split(TONE, 7)


def as_soundfile_stores(samples: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, "PCM_16", format="WAV")
    return soundfile.read(io.BytesIO(file.getvalue()), dtype="int16")[0]


def test_a_streamed_file_equals_a_whole_one(tmp_path):
    with GrowingFile(tmp_path / "stream.wav", RATE) as stream:
        for chunk in CHUNKS:
            stream.write(chunk)
    stream.close()
    write_audio(tmp_path / "whole.wav", TONE, RATE)
    assert (tmp_path / "stream.wav").read_bytes() == (tmp_path / "whole.wav").read_bytes()


def test_a_growing_file_is_whole_after_every_write_to_disk(tmp_path, monkeypatch):
    """Every state that a kill could leave, with the samples of a chunk torn in three."""
    path = tmp_path / "a.wav"
    path.write_bytes(b"old")
    expected = as_soundfile_stores(TONE)
    written, states = 0, 0

    def write_in_parts(stream, data):
        nonlocal states
        parts = [data] if len(data) == 44 else [data[:1000], data[1000:2001], data[2001:]]
        for part in parts:
            stream.write(part)
            states += 1
            if path.read_bytes() == b"old":
                assert written == 0
                continue
            samples = soundfile.read(path, dtype="int16")[0]
            assert len(samples) >= written
            np.testing.assert_array_equal(samples, expected[: len(samples)])
            with wave.open(str(path)) as other_reader:
                assert other_reader.getnframes() == len(samples)

    monkeypatch.setattr(streams, "write_all", write_in_parts)
    with GrowingFile(path, RATE) as stream:
        for chunk in CHUNKS:
            stream.write(chunk)
            written += len(chunk)
            assert soundfile.info(path).frames == written
    assert states == 3 + 4 * 6


def test_a_full_disk_ends_a_stream_with_what_was_written(tmp_path):
    path = tmp_path / "a.wav"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))
    try:
        with pytest.raises(OSError, match=r"^output: .*a.wav' cannot be .*File too large.*$"):
            with GrowingFile(path, RATE) as stream:
                for chunk in CHUNKS:
                    stream.write(chunk)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    samples = soundfile.read(path, dtype="int16")[0]
    np.testing.assert_array_equal(samples, as_soundfile_stores(np.concatenate(CHUNKS[:4])))
    assert path.stat().st_size == 44 + 2 * len(samples)


def test_a_wav_file_ends_at_four_gigabytes(tmp_path):
    with GrowingFile(tmp_path / "a.wav", RATE) as stream:
        stream.write(CHUNKS[0])
        stream._data_bytes = 2**32 - 2000
        with pytest.raises(ValueError, match=r"^output: a WAV file ends at 4 GB; .*$"):
            stream.write(CHUNKS[1])
        stream._data_bytes = 2 * len(CHUNKS[0])
    assert soundfile.info(tmp_path / "a.wav").frames == len(CHUNKS[0])


ENDLESS = """
import os, sys, numpy
from mlx_voxcpm2.audio.streams import GrowingFile
with GrowingFile(sys.argv[1], 48000) as stream:
    for index in range(100_000):
        stream.write(numpy.full(480, index % 1000 / 1024, "f4"))
        os.write(1, b".")
"""


def test_a_killed_process_leaves_a_whole_file(tmp_path):
    moments = random.Random(0)
    for index in range(10):
        path = tmp_path / f"{index}.wav"
        writer = subprocess.Popen(
            [sys.executable, "-c", ENDLESS, path],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
        )
        assert writer.stdout.read(1) == b"."
        killer = threading.Timer(moments.uniform(0, 0.03), writer.kill)
        killer.start()
        acknowledged = 1 + len(writer.stdout.read())
        assert writer.wait() < 0
        samples = soundfile.read(path, dtype="int16")[0]
        chunks, rest = divmod(len(samples), 480)
        assert rest == 0 and acknowledged <= chunks <= acknowledged + 1
        expected = np.arange(chunks) % 1000 * 32
        np.testing.assert_array_equal(samples, np.repeat(expected, 480))


class Pipe(io.RawIOBase):
    """A stream that cannot seek and takes at most 1000 bytes a call, like a pipe."""

    def __init__(self):
        self.data = b""

    def writable(self):
        return True

    def write(self, data):
        self.data += bytes(data[:1000])
        return min(len(data), 1000)


def test_a_pipe_gets_every_chunk_at_once():
    pipe = Pipe()
    received = []
    with PipeStream(io.BufferedWriter(pipe, 1 << 20), RATE) as stream:
        for chunk in CHUNKS:
            stream.write(chunk)
            received.append(len(pipe.data))
        assert not pipe.closed
    assert received == [44 + 2 * n for n in np.cumsum([len(chunk) for chunk in CHUNKS])]
    samples, rate = soundfile.read(io.BytesIO(pipe.data), dtype="int16")
    assert rate == RATE
    np.testing.assert_array_equal(samples, as_soundfile_stores(TONE))


def test_a_pipe_gets_nothing_before_the_first_chunk():
    pipe = Pipe()
    with PipeStream(pipe, RATE):
        pass
    assert pipe.data == b""


def test_a_reader_that_leaves_raises_broken_pipe():
    reading, writing = os.pipe()
    with open(writing, "wb", buffering=0) as file, PipeStream(file, RATE) as stream:
        stream.write(TONE[:100])
        os.close(reading)
        with pytest.raises(BrokenPipeError):
            stream.write(TONE[:100])
