"""Encoding audio as it is generated: the bytes of one file, chunk by chunk, for HTTP responses."""

from __future__ import annotations

import io

import numpy as np
import soxr
from numpy.typing import ArrayLike

from .formats import encode_blocks, encoded, libsndfile_errors, mono_samples, open_encoder, pcm16
from .media import MediaEncoder, has_encoder
from .streams import PipeStream

MEDIA_TYPES = {
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
    "flac": "audio/flac",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "ogg": "audio/ogg",
    "pcm": "audio/pcm",
}
"""MIME type by the format's name."""

PCM_RATE = 24_000
"""Sample rate of raw PCM in Hz, as OpenAI's service has it: raw samples cannot name another."""

# 128 kbit/s at 48 kHz. A constant bit rate tells an MP3's length, whose header is never updated.
_CONSTANT = {"bitrate_mode": "CONSTANT", "compression_level": 2 / 3}


class StreamEncoder:
    """Encoder of audio chunks (L,) to the bytes of a file that is read without seeking."""

    def __init__(self, format_name: str, sample_rate: int):
        """format_name: one of MEDIA_TYPES. Raises ValueError for a rate that it can't hold."""
        self.format_name, self.sample_rate = format_name, sample_rate
        self._file = _PipeFile()
        self._media: MediaEncoder | None = None
        if format_name == "pcm":
            self._resampler = soxr.ResampleStream(sample_rate, PCM_RATE, 1, dtype="float32")
        elif format_name == "aac" or has_encoder(format_name):
            self._media = MediaEncoder(self._file, sample_rate, format_name)
        elif format_name == "wav":
            self._wav = PipeStream(self._file, sample_rate)
        else:
            suffix = f".{format_name}"
            settings = _CONSTANT if format_name == "mp3" else {}
            with libsndfile_errors(suffix, sample_rate):
                self._encoder = open_encoder(self._file, sample_rate, suffix, **settings)

    @property
    def media_type(self) -> str:
        return MEDIA_TYPES[self.format_name]

    def write(self, samples: ArrayLike, is_last: bool = False) -> bytes:
        """Bytes that are final after this chunk; with `is_last`, all the rest."""
        samples = mono_samples(samples)
        if self.format_name == "pcm":
            return pcm16(self._resampler.resample_chunk(samples, last=is_last).clip(-1, 1))
        if self.format_name == "wav":
            self._wav.write(samples)
            return self._file.drain()
        if self._media is not None:
            self._media.write(samples)
            if is_last:
                self._media.close()
            return self._file.drain()
        encode_blocks(self._encoder, samples)
        if is_last:
            self._encoder.close()
        return self._file.drain()


def encode_whole(samples: np.ndarray, sample_rate: int, format_name: str) -> bytes:
    """samples (L,) -> a complete file, with its length in the header if the format has one."""
    if format_name in ("pcm", "aac"):  # which have no header
        return StreamEncoder(format_name, sample_rate).write(samples, is_last=True)
    return encoded(samples, sample_rate, f".{format_name}")


class _PipeFile(io.RawIOBase):
    """Virtual output file for libsndfile, whose bytes are sent on as they are written.

    Header updates to bytes already sent are dropped, so the length field stays unset.
    """

    def __init__(self):
        self._unsent, self._sent, self._position = bytearray(), 0, 0

    def drain(self) -> bytes:
        """Bytes written since the last call."""
        data = bytes(self._unsent)
        self._sent += len(data)
        self._unsent.clear()
        return data

    def write(self, data: bytes) -> int:
        data = bytes(data)
        start = self._position - self._sent
        self._position += len(data)
        unsent = data[max(0, -start) :]
        start = max(0, start)
        if unsent:
            self._unsent[start : start + len(unsent)] = unsent
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = (0, self._position, self._sent + len(self._unsent))[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: bytearray) -> int:
        return 0

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True
