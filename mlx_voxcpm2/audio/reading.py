"""Reading audio: a file, bytes, a file object or an array to mono float32 at a given rate.

The samples equal those of `librosa.load(path, sr=rate, mono=True)`, which upstream uses, without
librosa and the packages it needs: soundfile decodes, channels are averaged, soxr resamples.
"""

import io
import math
import numbers
import os
import re
from typing import BinaryIO

import numpy as np
from numpy.typing import ArrayLike

from ..errors import one_line

AudioSource = str | os.PathLike | bytes | BinaryIO | tuple[ArrayLike, int]

_RATES = range(1_000, 1_000_001)
_INTEGERS = {"uint8": (128, 128), "int16": (0, 2**15), "int32": (0, 2**31)}  # zero, full scale


def _checked_rate(rate: int, name: str) -> int:
    """Sample rate in Hz as an int. Raises ValueError unless it is whole and in `_RATES`."""
    if not isinstance(rate, numbers.Integral):
        shown = repr(rate) if isinstance(rate, float) else f"of type {type(rate).__name__}"
        raise ValueError(
            f"{name}: a sample rate {shown}; give (samples, sample_rate), the rate an int in Hz"
        )
    if int(rate) not in _RATES:
        raise ValueError(
            f"{name}: a sample rate of {int(rate)} Hz; give one from {_RATES[0]} to {_RATES[-1]} Hz"
        )
    return int(rate)


def _floats(samples: np.ndarray, name: str) -> np.ndarray:
    """Convert samples to float32, integers scaled to [-1, 1) as libsndfile does."""
    if np.issubdtype(samples.dtype, np.floating):
        with np.errstate(over="ignore"):  # becomes infinite, which read_audio refuses
            return samples.astype(np.float32)
    if samples.dtype.name not in _INTEGERS:
        raise ValueError(
            f"{name}: samples of type {samples.dtype}; give floats, int16, int32 or uint8"
        )
    zero, full_scale = _INTEGERS[samples.dtype.name]
    return (samples.astype(np.float32) - zero) / np.float32(full_scale)


def _from_pair(pair: tuple[ArrayLike, int], name: str) -> tuple[np.ndarray, int]:
    """Convert (samples, rate in Hz) to (float32 samples (L, channels), rate)."""
    if len(pair) != 2:
        raise ValueError(f"{name}: a tuple of {len(pair)} values; give (samples, sample_rate)")
    rate = _checked_rate(pair[1], name)
    try:
        samples = np.asarray(pair[0])
    except (TypeError, ValueError, RuntimeError) as error:  # bfloat16, ragged lists, GPU tensors
        raise ValueError(
            f"{name}: numpy cannot take these samples ({one_line(error)}); convert them to float32"
        ) from error
    if samples.ndim not in (1, 2):
        raise ValueError(
            f"{name}: samples of shape {samples.shape}; give [samples] or [samples, channels]"
        )
    if samples.ndim == 1:
        samples = samples[:, None]
    elif samples.shape[0] < samples.shape[1]:
        samples = samples.T
    return _floats(samples, name), rate


def _decode(data: bytes, shown: str, name: str) -> tuple[np.ndarray, int]:
    """Decode the bytes of an audio file: (float32 samples (L, channels), rate in Hz)."""
    if not data:
        raise ValueError(f"{name}: {shown} is empty; give audio")
    import soundfile

    try:
        samples, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        reason = error.error_string.strip().rstrip(".")
    except (ValueError, MemoryError):  # a FLAC that was piped claims 2**63 samples
        reason = "its header does not tell its length"
    else:
        return samples, _checked_rate(rate, name)
    raise ValueError(
        f"{name}: {shown} cannot be read as audio ({reason}); convert it to WAV, FLAC, OGG or MP3"
    )


def _rest_of(file: BinaryIO, name: str) -> bytes:
    """Bytes of a binary file object from its position to its end."""
    try:
        data = file.read()
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{name}: the file object cannot be read ({one_line(error)}); open it with mode 'rb'"
        ) from error
    if not isinstance(data, (bytes, bytearray)):
        raise ValueError(f"{name}: the file object does not give bytes; open it with mode 'rb'")
    return bytes(data)


def _contents(path: str, name: str) -> bytes:
    """Bytes of the file at `path`."""
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://?", path):  # pathlib makes one slash of two
        raise ValueError(f"{name}: {path!r} is a URL; download it and give the path of the file")
    try:
        with open(os.path.expanduser(path), "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{name}: no file {path!r}; check the path") from None
    except IsADirectoryError:
        raise ValueError(f"{name}: {path!r} is a folder; give an audio file") from None
    except PermissionError:
        raise PermissionError(
            f"{name}: {path!r} may not be read; change its permissions or give another file"
        ) from None
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{name}: {path!r} cannot be read ({one_line(error)}); give another file"
        ) from error


def resample(samples: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Resample float32 samples (L,) to (ceil(L * to_rate / from_rate),). Rates in Hz."""
    if from_rate == to_rate:
        return samples
    # In floats and in this order, so that rounding adds a sample whenever librosa's does.
    length = math.ceil(len(samples) * (float(to_rate) / from_rate))
    import soxr

    resampled = soxr.resample(samples, from_rate, to_rate, quality="HQ")[:length]
    return np.pad(resampled, (0, length - len(resampled)))


def read_channels(source: AudioSource, name: str = "audio") -> tuple[np.ndarray, int]:
    """Read audio as float32 samples (L, channels), nominally -1..1, and their rate in Hz.

    `source` is one of:
    - a path (`~` is expanded) to a file that libsndfile reads: WAV, FLAC, OGG, Opus, MP3, AIFF, ...
    - the bytes of such a file;
    - a binary file object: read from its position to its end, and left open;
    - a pair (samples, rate in Hz): (L,), (L, channels) or (channels, L), the longer axis being
      time; floats are used as they are, uint8, int16 and int32 are scaled to [-1, 1).

    Raises FileNotFoundError, PermissionError or ValueError: one line, beginning with `name`, that
    says what is wrong and what to do.
    """
    if isinstance(source, tuple):
        samples, rate = _from_pair(source, name)
    elif isinstance(source, (bytes, bytearray, memoryview)):
        samples, rate = _decode(bytes(source), "the content", name)
    elif hasattr(source, "read"):
        samples, rate = _decode(_rest_of(source, name), "what the file object holds", name)
    elif isinstance(source, (str, os.PathLike)):
        path = os.fsdecode(source)
        samples, rate = _decode(_contents(path, name), repr(path), name)
    else:
        raise ValueError(
            f"{name}: no audio can be read from a value of type {type(source).__name__}; "
            "give a path, bytes, a binary file object or (samples, sample_rate)"
        )
    if samples.size == 0:
        raise ValueError(f"{name}: there are no samples in it; give audio that is not empty")
    if not np.isfinite(samples).all():
        raise ValueError(f"{name}: some samples are NaN or infinite; give other audio")
    return samples, rate


def one_channel(samples: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Average the channels of float32 samples (L, channels) and resample; (L,) at `to_rate` Hz."""
    return resample(samples.mean(axis=1), from_rate, to_rate)


def read_audio(source: AudioSource, sample_rate: int, name: str = "audio") -> np.ndarray:
    """Read audio as float32 samples (L,) of one channel at `sample_rate` Hz, nominally -1..1.

    source, name and errors: see `read_channels`.
    """
    return one_channel(*read_channels(source, name), sample_rate)
