"""Decoding by PyAV, from the extra `media`: m4a, mp4, webm, aac, AMR, WMA, films and others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from ..errors import one_line

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
