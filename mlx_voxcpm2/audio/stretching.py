"""Another speed of speech at the same pitch, by FFmpeg's filter `atempo` (WSOLA).

benchmarks/time_stretch.py compares it with other libraries.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from ..errors import option
from . import media

# The filter gives output when as much as it was given would come out, so small blocks give it
# early. All are of one length, since its output depends a little on theirs.
_BLOCK_SECONDS = 0.01
# Limits of one filter. FFmpeg allows more than 2, but then skips samples instead of blending them.
_SLOWEST, _FASTEST = 0.5, 2.0


def check_speed(speed: float) -> None:
    """Raise ValueError if the library is missing that another speed than 1 needs."""
    if speed != 1 and not media.is_installed():
        name = option("speed")
        raise ValueError(
            f"{name} needs the library av; install '{media.EXTRA}', or leave {name} out"
        )


class Stretcher:
    """Stretches a stream of speech in time.

    The joined output does not depend on the chunks in which the input came.
    """

    def __init__(self, sample_rate: int, speed: float):
        """speed: seconds of speech per second of output, above 0."""
        self.speed = speed
        self.block = max(1, round(_BLOCK_SECONDS * sample_rate))
        self.received, self.given = 0, 0
        """Samples so far."""
        self._held = np.zeros(0, np.float32)
        """Samples that fill no block yet."""
        self._pushed = 0
        self._clock = Fraction(1, sample_rate)
        self._graph = _filters(sample_rate, speed, self._clock)

    def apply(self, chunk: np.ndarray, is_last: bool) -> np.ndarray:
        """chunk: samples (N,), N >= 0 -> the samples (L,) that are final now.

        At the end all are `received` / `speed` samples, rounded, and at least one.
        """
        self.received += len(chunk)
        held = np.concatenate([self._held, chunk.astype(np.float32)])
        whole = len(held) // self.block * self.block
        self._held = held[whole:]
        found = [self._filtered(block) for block in held[:whole].reshape(-1, self.block)]
        if is_last:
            found += self._rest(sum(map(len, found)))
        audio = np.concatenate([np.zeros(0, np.float32), *found])
        if is_last:
            audio = audio[: self._total - self.given]
        self.given += len(audio)
        return audio

    @property
    def _total(self) -> int:
        """Length of the whole output, if the input has ended."""
        return max(1, round(self.received / self.speed))

    def _rest(self, samples: int) -> Iterator[np.ndarray]:
        """Output at the end of the input, of which so many `samples` were given last.

        Silence is put behind the end, since the filter drops what it was given last.
        """
        block = np.zeros(self.block, np.float32)
        block[: len(self._held)] = self._held
        while self.given + samples < self._total:
            part = self._filtered(block)
            yield part
            samples += len(part)
            block = np.zeros_like(block)

    def _filtered(self, block: np.ndarray) -> np.ndarray:
        """block: samples (block,) -> the output (L,) that is there now."""
        import av

        frame = av.AudioFrame.from_ndarray(block[None], format="fltp", layout="mono")
        frame.sample_rate, frame.time_base = self._clock.denominator, self._clock
        frame.pts, self._pushed = self._pushed, self._pushed + len(block)
        self._graph.push(frame)
        found = [np.zeros(0, np.float32)]
        while True:
            try:
                found.append(self._graph.pull().to_ndarray()[0])
            except av.error.BlockingIOError:
                return np.concatenate(found)


def _filters(sample_rate: int, speed: float, clock: Fraction) -> Any:
    """Filter graph: a source, filters whose speeds multiplied are `speed`, a sink."""
    import av.filter

    graph: Any = av.filter.Graph()
    last = graph.add_abuffer(sample_rate=sample_rate, format="fltp", layout="mono", time_base=clock)
    for factor in _factors(speed):
        this = graph.add("atempo", repr(float(factor)))
        last.link_to(this)
        last = this
    last.link_to(graph.add("abuffersink"))
    graph.configure()
    return graph


def _factors(speed: float) -> list[float]:
    """Speeds within the limits of a single filter, whose product is `speed`."""
    factors = []
    while not _SLOWEST <= speed <= _FASTEST:
        factors.append(_SLOWEST if speed < _SLOWEST else _FASTEST)
        speed /= factors[-1]
    return [*factors, speed]


def stretched(audio: np.ndarray, sample_rate: int, speed: float) -> np.ndarray:
    """Audio (samples,) at another speed; the same array at speed 1, or if it is empty."""
    if speed == 1 or not len(audio):
        return audio
    return Stretcher(sample_rate, speed).apply(audio, True)
