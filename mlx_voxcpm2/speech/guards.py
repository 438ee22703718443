"""Guards against known faults of the model: endless silence, speech that can't be the text, a click
in the first patch.

Upstream has none of these; its own, a length limit and retries, are in `batch` and `generation`.
"""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from ..audio.clips import FRAME_SECONDS, KEPT_SILENCE, SILENT, SPEAKING, highest_level
from .options import GenerationOptions
from .results import FinishReason

# More letters per second than anyone speaks. Fifteen are usual; espeak-ng at twice its usual speed
# reaches 52 in Japanese, where each syllable counts as three, and at most 32 elsewhere.
MOST_LETTERS = 60
# Seconds of pauses that are no fault, and the share of speech above which silence is none.
MUCH_SILENCE = 2.0
LEAST_SPEECH = 0.25
# Shorter than for clips, whose loudest half second would be the hum behind a single word.
LOUD_SECONDS = 0.1


class SilenceDetector:
    """Measures the silence of a stream, chunk by chunk.

    Silent, as in a clip, is what is 30 dB below the loudest sound so far, or next to nothing.
    """

    def __init__(self, sample_rate: int):
        self.sample_rate = sample_rate
        self.samples = 0
        self.first: int | None = None
        """First sample that is not silent."""
        self.last = 0
        """End of the last sound, in samples."""
        self.levels = np.zeros(0)
        """RMS levels of frames of about 20 ms."""
        self.lengths = np.zeros(0, int)
        """Lengths of the frames in samples."""

    def update(self, chunk: np.ndarray) -> None:
        """chunk: samples (L,), L >= 1."""
        count = max(1, round(len(chunk) / (FRAME_SECONDS * self.sample_rate)))
        frames = np.array_split(chunk.astype(np.float64), count)
        self.levels = np.append(self.levels, [np.sqrt(np.mean(frame**2)) for frame in frames])
        self.lengths = np.append(self.lengths, [len(frame) for frame in frames])
        ends = self.samples + np.cumsum(self.lengths[-count:])
        for index in np.flatnonzero(self._is_loud()[-count:]):
            self.last = int(ends[index])
            if self.first is None:
                self.first = self.last - len(frames[index])
        self.samples += len(chunk)

    def _is_loud(self) -> np.ndarray:
        """Whether each frame is louder than silence."""
        return self.levels >= max(SILENT, SPEAKING * highest_level(self.levels, LOUD_SECONDS))

    @property
    def silence(self) -> float:
        """Seconds since the last sound, or since the beginning."""
        return (self.samples - self.last) / self.sample_rate

    def fault(self, letters: int, finish_reason: str) -> str | None:
        """Description of what is wrong with a whole utterance of so many letters, or None."""
        seconds = self.samples / self.sample_rate
        spoken = float(self.lengths[self._is_loud()].sum()) / self.sample_rate
        if not spoken and (finish_reason != "length" or seconds > MUCH_SILENCE):
            return f"{seconds:.1f} s of silence"
        if finish_reason == "silence":
            return f"silence after {self.last / self.sample_rate:.1f} s"
        if seconds - spoken > MUCH_SILENCE and spoken < LEAST_SPEECH * seconds:
            return f"{spoken:.1f} s of speech in {seconds:.1f} s, else silence"
        if finish_reason == "stop" and letters > MOST_LETTERS * spoken:
            return f"{spoken:.2f} s of speech for {letters} letters"
        return None


class StreamGuard:
    """Fades a stream in and tells when it has been silent for too long."""

    def __init__(self, options: GenerationOptions, sample_rate: int):
        self.fade = round(options.fade_in * sample_rate)
        self.limit = options.silence_limit
        self.detector = SilenceDetector(sample_rate)
        self.given = 0
        """Samples that have passed."""
        self.pending: mx.array | None = None
        """Last chunk, not measured yet."""

    def apply(self, chunk: mx.array) -> mx.array:
        """The next chunk (samples,) of the stream, faded; not waited for."""
        start, self.given = self.given, self.given + len(chunk)
        if start < self.fade:
            rise = np.minimum(np.arange(start, self.given, dtype=np.float32) / self.fade, 1)
            chunk = chunk * mx.array(rise)
        if self.limit:
            mx.async_eval(chunk)  # another thread may ask for the next one
            self.pending = chunk
        return chunk

    def reason_to_end(self) -> FinishReason | None:
        """Whether the stream has been silent too long ("silence"), else None.

        Call after the next patch is queued, so that the device is not kept waiting.
        """
        if self.pending is None:
            return None
        self.detector.update(np.array(self.pending))
        self.pending = None
        return "silence" if self.detector.silence >= self.limit else None


class Trimmer:
    """Cuts silence off both ends of a stream, all but 0.2 s of it; nothing if it is all silence.

    Silence is held back until sound follows it.
    """

    def __init__(self, sample_rate: int):
        self.detector = SilenceDetector(sample_rate)
        self.held = np.zeros(0, np.float32)
        self.cut = 0
        """Samples that were cut off."""

    def apply(self, chunk: np.ndarray, is_last: bool) -> np.ndarray:
        """chunk (samples,) -> the samples (L,) that are final now, at least one for the last."""
        start = self.detector.samples - len(self.held)
        self.detector.update(chunk)
        held = np.concatenate([self.held, chunk])
        margin = round(KEPT_SILENCE * self.detector.sample_rate)
        if self.detector.first is None:
            self.held = held
            return held if is_last else held[:0]
        begin, end = max(0, self.detector.first - margin - start), self.detector.last - start
        if is_last:
            end = min(len(held), end + margin)
            self.cut += len(held) - end
        self.cut += begin
        self.held = held[end:]
        return held[begin:end]


def guard_notes(
    options: GenerationOptions, finish_reason: str, trimmer: Trimmer | None
) -> tuple[str, ...]:
    """Descriptions of what the guards changed in a stream."""
    done = []
    if options.fade_in:
        done.append(f"fade_in: {options.fade_in:g} s")
    if finish_reason == "silence":
        done.append(f"silence_limit: {options.silence_limit:g} s of silence ended it")
    if trimmer is not None and trimmer.cut:
        seconds = trimmer.cut / trimmer.detector.sample_rate
        done.append(f"trim_silence: {seconds:.2f} s cut off")
    return tuple(done)
