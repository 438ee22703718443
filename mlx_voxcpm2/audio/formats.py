"""Audio file formats: mono samples (L,), nominally -1..1, to the bytes of a file.

Samples outside -1..1 are clipped. WAV, FLAC and AIFF files hold the 16-bit integers that
`soundfile.write` makes of them.
"""

import io
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
from numpy.typing import ArrayLike

from ..errors import output_error

FORMATS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".aiff": ("AIFF", "PCM_16"),
    ".aif": ("AIFF", "PCM_16"),
}
"""libsndfile's container and encoding by file suffix."""

# Other formats are broken until they are closed: if the writer is killed, libsndfile refuses a
# FLAC file, finds no samples in AIFF, and too few in Vorbis, Opus and MP3.
STREAM_FORMATS = (".wav",)

WAV_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")
_UNKNOWN = 0xFFFFFFFF


def output_format(path: str | os.PathLike) -> str:
    """Suffix of `path` in lower case, a key of `FORMATS`. Raises ValueError for any other."""
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        fault = f"{suffix} files cannot be written" if suffix else f"{str(path)!r} has no suffix"
        raise output_error(f"{fault}; end the name in one of {', '.join(FORMATS)}")
    return suffix


def mono_samples(audio: ArrayLike) -> np.ndarray:
    """Audio (L,) -> float32 samples (L,), -1..1.

    Raises ValueError for other shapes, NaN and infinity.
    """
    samples = np.asarray(audio, dtype=np.float32)
    if samples.ndim != 1:
        raise output_error(f"audio of shape {samples.shape}; give one channel, [samples]")
    if not np.isfinite(samples).all():
        raise output_error("some samples are NaN or infinite; they were not written")
    return samples.clip(-1, 1)


def pcm16(samples: np.ndarray) -> bytes:
    """float32 samples (L,) -> 2 L bytes, rounded as libsndfile rounds when it writes files."""
    pcm = io.BytesIO()
    soundfile.write(pcm, samples, 48_000, "PCM_16", "LITTLE", "RAW")  # any rate: unused
    return pcm.getvalue()


def wav_header(sample_rate: int, data_bytes: int | None) -> bytes:
    """Header of a WAV file with `data_bytes` of 16-bit samples; None: an unknown number."""
    if data_bytes is None:
        riff_bytes = data_bytes = _UNKNOWN
    else:
        riff_bytes = WAV_HEADER.size - 8 + data_bytes
    if riff_bytes > 0xFFFFFFFF:
        raise output_error("a WAV file ends at 4 GB; write a FLAC file, or several files")
    fmt = (b"fmt ", 16, 1, 1, sample_rate, 2 * sample_rate, 2, 16)
    return WAV_HEADER.pack(b"RIFF", riff_bytes, b"WAVE", *fmt, b"data", data_bytes)


def open_encoder(
    file: BinaryIO, sample_rate: int, suffix: str, **settings: object
) -> soundfile.SoundFile:
    """libsndfile's encoder for the format that `suffix` names. settings: of `SoundFile`."""
    container, subtype = FORMATS[suffix]
    return soundfile.SoundFile(file, "w", sample_rate, 1, subtype, format=container, **settings)


def encode_blocks(encoder: soundfile.SoundFile, samples: np.ndarray) -> None:
    """Write samples (L,) in blocks: libsndfile puts one write on the stack and crashes (Vorbis)."""
    for start in range(0, len(samples), 16_384):
        encoder.write(samples[start : start + 16_384])


@contextmanager
def libsndfile_errors(suffix: str, sample_rate: int) -> Iterator[None]:
    """Turn libsndfile's errors into a ValueError of one line that says what to do."""
    try:
        yield
    except soundfile.LibsndfileError as error:
        raise output_error(
            f"{suffix} at {sample_rate} Hz cannot be written ({error.error_string}); "
            "write a .wav file"
        ) from error


def encoded(audio: ArrayLike, sample_rate: int, suffix: str) -> bytes:
    """Audio (L,) -> the bytes of a complete file in the format that `suffix` names."""
    samples = mono_samples(audio)
    if not len(samples):
        raise output_error("there are no samples to write")
    if suffix == ".wav":
        pcm = pcm16(samples)
        return wav_header(sample_rate, len(pcm)) + pcm
    file = io.BytesIO()
    with libsndfile_errors(suffix, sample_rate):
        with open_encoder(file, sample_rate, suffix) as encoder:
            encode_blocks(encoder, samples)
    return file.getvalue()
