"""Decoding and encoding by PyAV, from the extra `media`: what libsndfile does not have.

It reads m4a, mp4, webm, aac, AMR, WMA, films and others, and writes AAC.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any, BinaryIO

from ..errors import one_line, output_error

if TYPE_CHECKING:
    import numpy as np

EXTRA = "mlx-voxcpm2[media]"

# What holds sound itself. FFmpeg reads playlists too, which name files and addresses to open.
_CONTAINERS = (
    "aac,ac3,aiff,alac,amr,amrnb,amrwb,ape,asf,au,avi,caf,dts,eac3,flac,flv,m4a,matroska,mkv,mov,"
    "mp3,mp4,mpeg,mpegts,3gp,3g2,mj2,ogg,oga,tta,voc,w64,wav,webm,wv"
)
_OPTIONS = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "none"}


def is_installed() -> bool:
    try:
        import av  # noqa: F401
    except ImportError:
        return False
    return True


class MediaFile:
    """The sound of a media file. Raises ValueError, with the reason alone, if there is none."""

    def __init__(self, file: BinaryIO):
        import av
        import av.logging

        av.logging.set_level(None)  # FFmpeg's remarks about a file are no errors
        file.seek(0)
        self._error: Any = av.FFmpegError
        try:
            self._container: Any = av.open(file, options=_OPTIONS, metadata_errors="ignore")
        except (av.FFmpegError, ValueError, EOFError) as error:
            raise ValueError(one_line(error)) from None
        self._stream = next(iter(self._container.streams.audio), None)
        if self._stream is None or self._stream.codec_context is None:
            self._container.close()
            raise ValueError("there is no sound in it")
        self.rate: int = self._stream.codec_context.sample_rate
        self.channels: int = self._stream.codec_context.channels

    @property
    def seconds(self) -> float | None:
        """Duration by the header, if it has one."""
        stream = self._stream
        if stream.duration is not None and stream.time_base is not None:
            return float(stream.duration * stream.time_base)
        return None

    def blocks(self) -> Iterator[np.ndarray]:
        """float32 samples (L, channels), in order. Raises ValueError for damage."""
        import av

        resampler = av.AudioResampler("fltp", self._stream.codec_context.layout.name, self.rate)
        try:
            for frame in self._container.decode(self._stream):
                frame.pts = None  # gaps in its times are no silence
                for part in resampler.resample(frame):
                    yield part.to_ndarray().T
        except (self._error, ValueError) as error:
            raise ValueError(one_line(error)) from None

    def __enter__(self) -> MediaFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()


# By format: container, codec, sample format, options of the container. An Ogg page of a tenth of a
# second lets a player begin at once; usual ones hold a second.
_ENCODERS = {
    "aac": ("adts", "aac", "fltp", {}),
    "opus": ("ogg", "libopus", "flt", {"page_duration": "100000"}),
}


def has_encoder(format_name: str) -> bool:
    """Whether a format can be written by PyAV, here."""
    if format_name not in _ENCODERS or not is_installed():
        return False
    import av

    return _ENCODERS[format_name][1] in av.codecs_available


class MediaEncoder:
    """A compressed stream, written to a file as the sound comes."""

    def __init__(self, file: Any, sample_rate: int, format_name: str):
        """file: has `write`. Raises ValueError if PyAV is missing, or for an unusual rate."""
        if not has_encoder(format_name):
            raise output_error(f"{format_name} needs the library PyAV; install '{EXTRA}'")
        import av

        container, codec, self._format, options = _ENCODERS[format_name]
        self._rate, self._samples = sample_rate, 0
        try:
            self._container: Any = av.open(file, "w", format=container, options=options)
            self._stream: Any = self._container.add_stream(codec, rate=sample_rate, layout="mono")
        except (av.FFmpegError, ValueError) as error:
            raise output_error(
                f"{format_name} at {sample_rate} Hz cannot be written ({one_line(error)}); take mp3"
            ) from None

    def write(self, samples: np.ndarray) -> None:
        """Add float32 samples (L,), -1..1."""
        import av

        if not len(samples):
            return
        frame = av.AudioFrame.from_ndarray(samples[None], format=self._format, layout="mono")
        frame.sample_rate, frame.time_base = self._rate, Fraction(1, self._rate)
        frame.pts, self._samples = self._samples, self._samples + len(samples)
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        self._container.mux(self._stream.encode(None))
        self._container.close()
