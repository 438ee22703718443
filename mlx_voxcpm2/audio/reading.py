"""Reading audio: a file, bytes, a file object or an array to mono float32 at a given rate.

The samples equal those of `librosa.load(path, sr=rate, mono=True)`, which upstream uses, without
librosa and the packages it needs: soundfile decodes, channels are averaged, soxr resamples.
"""

import io
import math
import os
import re
import stat
from contextlib import ExitStack
from dataclasses import replace
from typing import BinaryIO

import numpy as np
from numpy.typing import ArrayLike

from ..errors import one_line
from .decoding import CLIP, Limit, checked_rate, decode

AudioSource = str | os.PathLike | bytes | BinaryIO | tuple[ArrayLike, int]

# Floating-point sound may exceed full scale a little; integers that were stored as floats are far
# above it.
_HIGHEST = 100.0

_INTEGERS = {"uint8": (128, 128), "int16": (0, 2**15), "int32": (0, 2**31)}  # zero, full scale


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
    rate = checked_rate(pair[1], name)
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


def _decode(data: bytes, shown: str, name: str, limit: Limit) -> tuple[np.ndarray, int]:
    """Decode the bytes of an audio file: (float32 samples (L, channels), rate in Hz)."""
    if not data:
        raise ValueError(f"{name}: {shown} is empty; give audio")
    return decode(io.BytesIO(data), shown, name, limit)


def _rest_of(file: BinaryIO, name: str, limit: Limit) -> bytes:
    """Bytes of a binary file object from its position to its end."""
    try:
        data = file.read(limit.bytes + 1)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{name}: the file object cannot be read ({one_line(error)}); open it with mode 'rb'"
        ) from error
    if not isinstance(data, (bytes, bytearray)):
        raise ValueError(f"{name}: the file object does not give bytes; open it with mode 'rb'")
    return _bounded(data, "what the file object holds", name, limit)


def _bounded(data: bytes, shown: str, name: str, limit: Limit) -> bytes:
    """The data itself. Raises ValueError if it is more than the longest sound needs."""
    if len(data) > limit.bytes:
        raise ValueError(
            f"{name}: {shown} has more than {limit.bytes >> 20} MB, or no end; {limit.advice}"
        )
    return bytes(data)


def _from_path(path: str, name: str, limit: Limit) -> tuple[np.ndarray, int]:
    """Decode the file at `path`, as `_decode` does."""
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://?", path):  # pathlib makes one slash of two
        raise ValueError(f"{name}: {path!r} is a URL; download it and give the path of the file")
    shown = repr(path)
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open(os.path.expanduser(path), "rb"))
            status = os.fstat(file.fileno())
            is_pipe = not stat.S_ISREG(status.st_mode)
            data = file.read(limit.bytes + 1) if is_pipe else None
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(f"{name}: no file {shown}; check the path") from None
        except IsADirectoryError:
            raise ValueError(f"{name}: {shown} is a folder; give an audio file") from None
        except PermissionError:
            raise PermissionError(
                f"{name}: {shown} may not be read; change its permissions or give another file"
            ) from None
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{name}: {shown} cannot be read ({one_line(error)}); give another file"
            ) from error
        if data is not None:  # a device or a pipe
            return _decode(_bounded(data, shown, name, limit), shown, name, limit)
        if not status.st_size:
            raise ValueError(f"{name}: {shown} is empty; give audio")
        return decode(file, shown, name, limit)


def resample(samples: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Resample float32 samples (L,) to (ceil(L * to_rate / from_rate),). Rates in Hz."""
    if from_rate == to_rate:
        return samples
    # In floats and in this order, so that rounding adds a sample whenever librosa's does.
    length = math.ceil(len(samples) * (float(to_rate) / from_rate))
    import soxr

    resampled = soxr.resample(samples, from_rate, to_rate, quality="HQ")[:length]
    return np.pad(resampled, (0, length - len(resampled)))


def read_channels(
    source: AudioSource, name: str = "audio", limit: Limit = CLIP
) -> tuple[np.ndarray, int]:
    """Read audio as float32 samples (L, channels), nominally -1..1, and their rate in Hz.

    `source` is one of:
    - a path (`~` is expanded) to a file that libsndfile reads (WAV, FLAC, OGG, Opus, MP3, AIFF,
      ...) or, with the extra `media`, PyAV (m4a, mp4, webm, aac, AMR, WMA, films, ...);
    - the bytes of such a file;
    - a binary file object: read from its position to its end, and left open;
    - a pair (samples, rate in Hz): (L,), (L, channels) or (channels, L), the longer axis being
      time; floats are used as they are, uint8, int16 and int32 are scaled to [-1, 1).

    A file is decoded up to the limit only, by default that of a clip; a longer one is refused.

    Raises FileNotFoundError, PermissionError or ValueError: one line, beginning with `name`, that
    says what is wrong and what to do.
    """
    if isinstance(source, tuple):
        samples, rate = _from_pair(source, name)
    elif isinstance(source, (bytes, bytearray, memoryview)):
        samples, rate = _decode(bytes(source), "the content", name, limit)
    elif hasattr(source, "read"):
        samples, rate = _decode(
            _rest_of(source, name, limit), "what the file object holds", name, limit
        )
    elif isinstance(source, (str, os.PathLike)):
        samples, rate = _from_path(os.fsdecode(source), name, limit)
    else:
        raise ValueError(
            f"{name}: no audio can be read from a value of type {type(source).__name__}; "
            "give a path, bytes, a binary file object or (samples, sample_rate)"
        )
    if samples.size == 0:
        raise ValueError(f"{name}: there are no samples in it; give audio that is not empty")
    if not np.isfinite(samples).all():
        raise ValueError(f"{name}: some samples are NaN or infinite; give other audio")
    if (highest := float(np.abs(samples).max())) > _HIGHEST:
        raise ValueError(
            f"{name}: samples reach {highest:.4g}, and full scale is 1; divide them by 32768 if "
            "they were 16-bit numbers"
        )
    return samples, rate


def check_audio(path: str | os.PathLike, name: str = "audio", limit: Limit = CLIP) -> None:
    """Raise what `read_audio` raises for a file, as far as its header and first block tell.

    A pipe or a device is left alone, since what is read of it is gone.
    """
    if not os.path.exists(path) or os.path.isfile(path):
        read_channels(path, name, replace(limit, is_first_block=True))


def one_channel(samples: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Average the channels of float32 samples (L, channels) and resample; (L,) at `to_rate` Hz.

    Channels that would cancel out are not averaged: the loudest one is used.
    """
    mixed = samples.mean(axis=1)
    if cancels_out(samples, mixed):
        mixed = np.ascontiguousarray(samples[:, _levels(samples).argmax()])
    return resample(mixed, from_rate, to_rate)


def cancels_out(samples: np.ndarray, mixed: np.ndarray) -> bool:
    """Whether the average (L,) of channels (L, channels) lacks 20 dB of them: one is inverted."""
    if samples.shape[1] == 1:
        return False
    return float(_levels(mixed[:, None])[0]) < 0.1 * float(_levels(samples).max())


def _levels(samples: np.ndarray) -> np.ndarray:
    """RMS level of each channel of samples (L, channels), without their offset from zero."""
    return samples.std(axis=0)


def read_audio(
    source: AudioSource, sample_rate: int, name: str = "audio", limit: Limit = CLIP
) -> np.ndarray:
    """Read audio as float32 samples (L,) of one channel at `sample_rate` Hz, nominally -1..1.

    source, name, limit and errors: see `read_channels`.
    """
    return one_channel(*read_channels(source, name, limit), sample_rate)
