"""Guards against known faults of the model: silence without end, takes that can't be the text, a
first patch that clicks.

Upstream has none of these; its own, a longest length and another take, are in `batch` and
`generation`.
"""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from ..audio.clips import FRAME_SECONDS, KEPT_SILENCE, SILENT, SPEAKING, highest_level
from .options import GenerationOptions

# More letters than anyone says in a second. Usual are fifteen; espeak-ng at twice its usual speed
# comes to 52 in Japanese, of whose syllables each counts as three, and to 32 at most elsewhere.
MOST_LETTERS = 60
# Pauses of less than this are no fault, and neither is silence of which more than this is speech.
MUCH_SILENCE = 2.0
LEAST_HEARD = 0.25
# A clip's loudest half a second would be the hum behind a single word.
LOUD_SECONDS = 0.1


class Ear:
    """Hears a stream chunk by chunk, and knows by then what of it was silence.

    Silence is, as in a clip, what is 30 dB below the loudest so far, and what is next to nothing.
    """

    def __init__(self, sample_rate: int):
        self.sample_rate = sample_rate
        self.samples = 0
        self.first: int | None = None
        """The sample with which something was heard first."""
        self.last = 0
        """The sample after all that was heard."""
        self.levels = np.zeros(0)
        """Root mean squares of frames of about 20 ms."""
        self.lengths = np.zeros(0, int)

    def hear(self, chunk: np.ndarray) -> None:
        """chunk (samples,), one or more."""
        count = max(1, round(len(chunk) / (FRAME_SECONDS * self.sample_rate)))
        frames = np.array_split(chunk.astype(np.float64), count)
        self.levels = np.append(self.levels, [np.sqrt(np.mean(frame**2)) for frame in frames])
        self.lengths = np.append(self.lengths, [len(frame) for frame in frames])
        ends = self.samples + np.cumsum(self.lengths[-count:])
        for index in np.flatnonzero(self._speaking()[-count:]):
            self.last = int(ends[index])
            if self.first is None:
                self.first = self.last - len(frames[index])
        self.samples += len(chunk)

    def _speaking(self) -> np.ndarray:
        """Whether each frame does."""
        return self.levels >= max(SILENT, SPEAKING * highest_level(self.levels, LOUD_SECONDS))

    @property
    def silence(self) -> float:
        """Seconds since something was heard, or since the beginning."""
        return (self.samples - self.last) / self.sample_rate

    def fault(self, letters: int, reason: str) -> str | None:
        """Of a whole take that shall say so many letters and ended for this reason: what is wrong
        with it, as what its seed gave."""
        seconds = self.samples / self.sample_rate
        heard = float(self.lengths[self._speaking()].sum()) / self.sample_rate
        if not heard and (reason != "length" or seconds > MUCH_SILENCE):
            return f"{seconds:.1f} s of silence"
        if reason == "silence":
            return f"silence after {self.last / self.sample_rate:.1f} s"
        if seconds - heard > MUCH_SILENCE and heard < LEAST_HEARD * seconds:
            return f"{heard:.1f} s of speech in {seconds:.1f} s, else silence"
        if reason == "stop" and letters > MOST_LETTERS * heard:
            return f"{heard:.2f} s of speech for {letters} letters"
        return None


class Guard:
    """Of one stream: fades it in, and says when it has been silent for too long."""

    def __init__(self, options: GenerationOptions, sample_rate: int):
        self.fade = round(options.fade_in * sample_rate)
        self.limit = options.silence_limit
        self.ear = Ear(sample_rate)
        self.given = 0
        """Samples."""
        self.unheard: mx.array | None = None

    def let_through(self, sound: mx.array) -> mx.array:
        """The next sound (samples,) of the stream, as it shall be heard; not waited for."""
        start, self.given = self.given, self.given + len(sound)
        if start < self.fade:
            rise = np.minimum(np.arange(start, self.given, dtype=np.float32) / self.fade, 1)
            sound = sound * mx.array(rise)
        if self.limit:
            mx.async_eval(sound)  # another thread may ask for the next one
            self.unheard = sound
        return sound

    def reason_to_end(self) -> str | None:
        """By what was let through. Asked when the next patch is under way, so that the device
        need not wait for us to listen."""
        if self.unheard is None:
            return None
        self.ear.hear(np.array(self.unheard))
        self.unheard = None
        return "silence" if self.ear.silence >= self.limit else None


class Trimmer:
    """Cuts silence off both ends of a stream, all but 0.2 s of it; nothing if it is all silence.

    Silence is held back until something is heard after it.
    """

    def __init__(self, sample_rate: int):
        self.ear = Ear(sample_rate)
        self.held = np.zeros(0, np.float32)
        self.cut = 0
        """Samples."""

    def take(self, chunk: np.ndarray, is_last: bool) -> np.ndarray:
        """chunk (samples,) -> what can be heard now (samples,), some of it for the last one."""
        start = self.ear.samples - len(self.held)
        self.ear.hear(chunk)
        held, kept = np.concatenate([self.held, chunk]), round(KEPT_SILENCE * self.ear.sample_rate)
        if self.ear.first is None:
            self.held = held
            return held if is_last else held[:0]
        begin, end = max(0, self.ear.first - kept - start), self.ear.last - start
        if is_last:
            end = min(len(held), end + kept)
            self.cut += len(held) - end
        self.cut += begin
        self.held = held[end:]
        return held[begin:end]


def deeds(options: GenerationOptions, reason: str, trimmer: Trimmer | None) -> tuple[str, ...]:
    """What was done to a stream that ended for this reason, in words."""
    done = []
    if options.fade_in:
        done.append(f"fade_in: {options.fade_in:g} s")
    if reason == "silence":
        done.append(f"silence_limit: {options.silence_limit:g} s of silence ended it")
    if trimmer is not None and trimmer.cut:
        seconds = trimmer.cut / trimmer.ear.sample_rate
        done.append(f"trim_silence: {seconds:.2f} s cut off")
    return tuple(done)
