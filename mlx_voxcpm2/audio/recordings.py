"""Recordings of any usual length: read as one channel at the rate of recognisers, and cut.

They are mixed and resampled while they are decoded, so that hours take no more memory than needed.
"""

from __future__ import annotations

import numpy as np

from .clips import FRAME_SECONDS, SILENT, Clip
from .decoding import Blocks
from .reading import AudioSource, one_channel, read_channels

RATE = 16_000
"""Sample rate in Hz of recordings that are read, and of recognisers."""
LONGEST_HOURS = 4
_SMOOTHING = 0.3
"""Seconds of silence that are looked for at a cut."""


class RecordingBlocks(Blocks):
    """Blocks of a recording, each mixed to one channel and resampled to `RATE` at once."""

    most_bytes = 2**32
    advice = "cut it into shorter ones"

    def __init__(self, rate: int, channels: int, name: str):
        super().__init__(rate, channels, name)
        import soxr

        self._resampler = soxr.ResampleStream(self.rate, RATE, 1, "float32", "HQ")

    def most_frames(self) -> int:
        return round(LONGEST_HOURS * 3600 * self.rate)

    def add(self, block: np.ndarray) -> None:
        self.length += len(block)
        self.check(self.length)
        mixed = one_channel(block, self.rate, self.rate)
        self._blocks.append(self._resampler.resample_chunk(mixed))

    def joined(self) -> tuple[np.ndarray, int]:
        rest = self._resampler.resample_chunk(np.zeros(0, np.float32), last=True)
        return np.concatenate([*self._blocks, rest])[:, None], RATE


def read_recording(source: AudioSource, name: str = "audio") -> np.ndarray:
    """Read a recording of up to `LONGEST_HOURS` as float32 samples (L,) at `RATE`.

    source, name, errors: see `read_channels`.
    """
    samples, rate = read_channels(source, name, RecordingBlocks)
    return one_channel(samples, rate, RATE)


def is_silent(audio: np.ndarray, sample_rate: int) -> bool:
    """Whether audio (samples,) holds nothing that could be speech."""
    return not len(audio) or Clip(audio, sample_rate).is_silent


def pieces(audio: np.ndarray, sample_rate: int, longest: float) -> list[tuple[int, int]]:
    """Start and end, in samples, of successive pieces of audio of at most `longest` seconds.

    Each cut is at the quietest place of the last half that a piece may have.
    """
    limit, found, start = round(longest * sample_rate), [], 0
    while len(audio) - start > limit:
        cut = start + _quietest(audio[start : start + limit], limit // 2, sample_rate)
        found.append((start, cut))
        start = cut
    return [*found, (start, len(audio))]


def _quietest(audio: np.ndarray, first: int, sample_rate: int) -> int:
    """Index of the middle of the quietest place from `first` on; the last one of equals."""
    length = max(1, round(FRAME_SECONDS * sample_rate))
    part = audio[first:]
    frames = part[: len(part) // length * length].reshape(-1, length).astype(np.float64)
    width = min(round(_SMOOTHING / FRAME_SECONDS), len(frames))
    if not width:
        return len(audio)
    # Below the level of silence all places are equally good.
    power = np.maximum(np.mean(frames**2, axis=1), SILENT**2)
    smooth = np.convolve(power, np.ones(width) / width, "valid").round(12)
    place = len(smooth) - 1 - int(np.argmin(smooth[::-1]))
    return first + (place + width // 2) * length
