"""Sound that is sent as it is spoken: the bytes of one file, piece by piece."""

from __future__ import annotations

import io

import numpy as np
import soundfile
import soxr
from numpy.typing import ArrayLike

from .writing import FORMATS, PipeStream, encode_blocks, encoded, mendable, mono_samples, pcm16

MEDIA_TYPES = {
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
    "flac": "audio/flac",
    "opus": "audio/ogg",
    "ogg": "audio/ogg",
    "pcm": "audio/pcm",
}
PCM_RATE = 24_000
"""Of bare samples, in Hz: that of OpenAI's service, since nothing in them could say another."""

# 128 kbit/s at 48 kHz. At one bit rate the length of an MP3 whose head is not mended can be told.
_CONSTANT = {"bitrate_mode": "CONSTANT", "compression_level": 2 / 3}


class SoundEncoder:
    """Takes samples (L,); gives the bytes of a file that nobody need seek in."""

    def __init__(self, format_name: str, sample_rate: int):
        """format_name: one of MEDIA_TYPES. Raises ValueError for a rate that it can't hold."""
        self.format_name, self.sample_rate = format_name, sample_rate
        self._sink = _Sink()
        if format_name == "pcm":
            self._resampler = soxr.ResampleStream(sample_rate, PCM_RATE, 1, dtype="float32")
        elif format_name == "wav":
            self._wav = PipeStream(self._sink, sample_rate)
        else:
            suffix = f".{format_name}"
            container, subtype = FORMATS[suffix]
            settings = _CONSTANT if format_name == "mp3" else {}
            with mendable(suffix, sample_rate):
                self._encoder = soundfile.SoundFile(
                    self._sink, "w", sample_rate, 1, subtype, format=container, **settings
                )

    @property
    def media_type(self) -> str:
        return MEDIA_TYPES[self.format_name]

    def write(self, samples: ArrayLike, is_last: bool = False) -> bytes:
        """What can be sent by now; with `is_last`, all the rest."""
        samples = mono_samples(samples)
        if self.format_name == "pcm":
            return pcm16(self._resampler.resample_chunk(samples, last=is_last).clip(-1, 1))
        if self.format_name == "wav":
            self._wav.write(samples)
            return self._sink.drain()
        encode_blocks(self._encoder, samples)
        if is_last:
            self._encoder.close()
        return self._sink.drain()


def encode_whole(samples: np.ndarray, sample_rate: int, format_name: str) -> bytes:
    """samples (L,) -> a file whose header says how long it is, where the format has one."""
    if format_name == "pcm":
        return SoundEncoder("pcm", sample_rate).write(samples, is_last=True)
    return encoded(samples, sample_rate, f".{format_name}")


class _Sink(io.RawIOBase):
    """A file for libsndfile whose beginning has been sent: what is mended there is lost, which
    leaves a file that does not know how long it is."""

    def __init__(self):
        self._held, self._sent, self._position = bytearray(), 0, 0

    def drain(self) -> bytes:
        data = bytes(self._held)
        self._sent += len(data)
        self._held.clear()
        return data

    def write(self, data: bytes) -> int:
        data = bytes(data)
        start = self._position - self._sent
        self._position += len(data)
        kept = data[max(0, -start) :]
        start = max(0, start)
        if kept:
            self._held[start : start + len(kept)] = kept
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = (0, self._position, self._sent + len(self._held))[whence]
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
