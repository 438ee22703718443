"""Decoding a file of sound, never more of it than a clip can use, whatever its header says."""

from __future__ import annotations

import numbers
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from . import media
from .lengths import streams_with_lengths

LONGEST_SECONDS = 300.0
"""Longest clip that is read. As reference and prompt together it fills half the context."""
_CHANNELS, _RATE = 2, 48_000
"""Channels and rate in Hz of the largest sound."""
MOST_SAMPLES = round(_CHANNELS * _RATE * LONGEST_SECONDS)
"""Samples of all channels that are read at most."""
_RATES = range(1_000, 1_000_001)
_BLOCK = 2**16


def checked_rate(rate: int, name: str) -> int:
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


@dataclass(frozen=True)
class Limit:
    """How much of a source is read at most. seconds: None is `LONGEST_SECONDS`."""

    seconds: float | None = None
    advice: str = "cut it to 5 to 30 s"
    """What to do with more, for the message."""
    is_first_block: bool = False
    """Whether the first block is enough, since only what can't be read is looked for."""
    is_reduced: bool = False
    """Whether more channels and a higher rate are reduced, so that only the seconds count."""

    @property
    def longest(self) -> float:
        """Seconds that are read at most."""
        return LONGEST_SECONDS if self.seconds is None else self.seconds

    @property
    def samples(self) -> int:
        """Samples of all channels that are read at most."""
        return MOST_SAMPLES if self.seconds is None else round(_CHANNELS * _RATE * self.seconds)

    @property
    def bytes(self) -> int:
        """Bytes that are read of what can't seek: the longest sound as float32."""
        return 4 * self.samples


CLIP = Limit()
RECORDING = Limit(3 * 3600, "cut it into files of at most three hours", is_reduced=True)
"""Of what is transcribed: more would need too much memory, as it is decoded at once."""


def decode(file: BinaryIO, shown: str, name: str, limit: Limit = CLIP) -> tuple[np.ndarray, int]:
    """Decode an audio file that can seek: (float32 samples (L, channels), rate in Hz).

    shown, name: of the source and of the argument, for messages. Raises ValueError, in one line,
    for what can't be decoded, and for more than the limit, which is found out before it is decoded
    where a header tells it.
    """
    reason, is_damaged = "", False
    try:
        parts = [_by_libsndfile(stream, name, limit) for stream in streams_with_lengths(file)]
        if (samples := _joined(parts)).size:
            return samples, parts[0][1]
    except _Unreadable as error:
        reason, is_damaged = str(error), error.is_damaged
    if not is_damaged and media.is_installed():
        try:
            return _by_pyav(file, name, limit)
        except _Unreadable as error:
            reason = reason and str(error)
    elif reason and not is_damaged:
        reason += f"; m4a, mp4, webm and others need '{media.EXTRA}'"
    if not reason:
        raise ValueError(f"{name}: there are no samples in it; give audio that is not empty")
    raise ValueError(
        f"{name}: {shown} cannot be read as audio ({reason}); convert it to WAV, FLAC, OGG or MP3"
    )


class _Unreadable(Exception):
    """The reason why a decoder can't read a file. Another one may, unless it is damaged."""

    def __init__(self, reason: str, is_damaged: bool = False):
        super().__init__(reason)
        self.is_damaged = is_damaged


class _Reduction:
    """Reduces blocks (L, channels) to at most `_CHANNELS` and `_RATE`; others stay as they are."""

    def __init__(self, rate: int, channels: int):
        self.rate, self.channels = min(rate, _RATE), min(channels, _CHANNELS)
        self._resampler: Any = None
        if self.rate < rate:
            import soxr

            self._resampler = soxr.ResampleStream(rate, self.rate, self.channels, "float32", "HQ")

    def apply(self, block: np.ndarray, is_last: bool = False) -> np.ndarray:
        """The next block. is_last: whether none follows it, so that the resampler is emptied."""
        block = _two_channels(block)
        if self._resampler is None:
            return block
        reduced = self._resampler.resample_chunk(np.ascontiguousarray(block), last=is_last)
        return reduced.reshape(-1, self.channels)


def _two_channels(block: np.ndarray) -> np.ndarray:
    """Two channels whose average is that of all channels of (L, channels); one stays one.

    Every other channel is in the first: neighbours, of which one may be inverted, stay apart.
    """
    channels = block.shape[1]
    if channels <= _CHANNELS:
        return block
    sums = [block[:, start::2].sum(axis=1) for start in range(_CHANNELS)]
    return np.stack(sums, axis=1) * np.float32(_CHANNELS / channels)


class _Blocks:
    """Decoded blocks (L, channels), up to the limit, and reduced if that says so."""

    def __init__(self, rate: int, channels: int, name: str, limit: Limit):
        self.source_rate, self.channels, self.name = checked_rate(rate, name), channels, name
        if channels < 1:
            raise _Unreadable("it has no channels")
        self._limit = limit
        self._reduction = _Reduction(self.source_rate, channels) if limit.is_reduced else None
        self._most = round(limit.longest * rate)
        if self._reduction is None:
            self._most = min(self._most, limit.samples // channels)
        self._blocks: list[np.ndarray] = []
        self.frames = 0
        """Length of what was decoded, at the rate of the source."""

    @property
    def rate(self) -> int:
        """Sample rate of what is joined, in Hz."""
        return self.source_rate if self._reduction is None else self._reduction.rate

    def check(self, frames: float) -> None:
        """Raise ValueError for more frames, by a header, than are read."""
        # A second more, as headers are not exact.
        rate = self.source_rate
        if frames > self._most + rate:
            of = f" of {self.channels} channels at {rate} Hz" if self._is_wide else ""
            raise ValueError(
                f"{self.name}: more than {self._most / rate:.0f} s of sound{of} are not read; "
                f"{self._limit.advice}"
            )

    @property
    def _is_wide(self) -> bool:
        return self._most < round(self._limit.longest * self.source_rate)

    def add(self, block: np.ndarray) -> None:
        self.frames += len(block)
        self.check(self.frames)
        self._blocks.append(block if self._reduction is None else self._reduction.apply(block))

    def joined(self) -> np.ndarray:
        """All blocks, (L, channels); none can be added then."""
        empty = np.zeros((0, self.channels), np.float32)
        if self._reduction is not None:
            empty = self._reduction.apply(empty, is_last=True)
        return np.concatenate([*self._blocks, empty])


def _by_libsndfile(file: BinaryIO, name: str, limit: Limit) -> tuple[np.ndarray, int]:
    """Samples (L, channels) and rate. Raises _Unreadable, or ValueError for too much."""
    import soundfile

    class Sequential(soundfile.SoundFile):
        """Never seeks: soundfile would after each block, and FLAC without a length can't."""

        def seekable(self) -> bool:
            return False

    is_open = False
    try:
        with Sequential(file) as source:
            is_open = True
            blocks = _Blocks(source.samplerate, source.channels, name, limit)
            known = source.frames if 0 < source.frames < 2**36 - 1 else None
            blocks.check(known or 0)
            for block in _blocks_of(source):
                blocks.add(block)
                if limit.is_first_block:
                    return blocks.joined(), blocks.rate
            samples = blocks.joined()
            if source.format == "FLAC" and known is not None and blocks.frames < known:
                raise _Unreadable("it is cut short", is_damaged=True)
            return samples, blocks.rate
    except soundfile.LibsndfileError as error:
        raise _Unreadable(error.error_string.strip().rstrip("."), is_open) from None


def _blocks_of(source) -> Iterator[np.ndarray]:
    while len(block := source.read(_BLOCK, dtype="float32", always_2d=True)):
        yield block


def _by_pyav(file: BinaryIO, name: str, limit: Limit) -> tuple[np.ndarray, int]:
    """Samples (L, channels) and rate. Raises _Unreadable, or ValueError for too much."""
    try:
        opened = media.MediaFile(file)
    except ValueError as error:
        raise _Unreadable(str(error)) from None
    with opened:
        blocks = _Blocks(opened.rate, opened.channels, name, limit)
        blocks.check((opened.seconds or 0) * opened.rate)
        decoded = opened.blocks()
        while True:
            try:
                block = next(decoded, None)
            except ValueError as error:
                raise _Unreadable(str(error)) from None
            if block is not None:
                blocks.add(block)
            if block is None or limit.is_first_block:
                return blocks.joined(), blocks.rate


def _joined(parts: list[tuple[np.ndarray, int]]) -> np.ndarray:
    """Samples of all parts that are like the first one."""
    (first, rate), *_ = parts
    like = [part for part, its in parts if its == rate and part.shape[1] == first.shape[1]]
    return np.concatenate(like) if len(like) > 1 else first
