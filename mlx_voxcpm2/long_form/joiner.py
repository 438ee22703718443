"""Joining segments of speech: pauses to the sample, crossfades, one level."""

from __future__ import annotations

import numpy as np

from ..audio.clips import HIGHEST_PEAK, SILENT, Clip

# A larger gain would raise the noise of a whisper, or make loud what was meant to be quiet.
MOST_GAIN = 10 ** (6 / 20)


class SegmentJoiner:
    """Joins segments in order; returns the audio that is final, chunk by chunk.

    Between two calls it holds no more than the end of a segment that the next one fades into.
    """

    def __init__(self, sample_rate: int, crossfade: float = 0.0, match_level: bool = False):
        """crossfade: seconds that neighbours share; at pauses, they fade out and in instead.

        match_level: make all as loud as the first segment, by up to 6 dB.
        """
        self.sample_rate, self.match_level = sample_rate, match_level
        self.fade = round(crossfade * sample_rate)
        self.given = 0
        """Samples returned so far."""
        self.level: float | None = None
        self.end = np.zeros(0, np.float32)

    def add(
        self, audio: np.ndarray, pause: float, is_last: bool
    ) -> tuple[np.ndarray, tuple[float, float]]:
        """Append audio (samples,), float32, and `pause` seconds of silence.

        Returns the next audio of the whole (samples,), and the start and end of this segment in
        seconds from the beginning.
        """
        audio = self._levelled(audio)
        length = min(self.fade, len(audio) // 2)
        shared = min(len(self.end), length)
        if length:
            audio = audio.copy()
            # Equal power, since the two are uncorrelated.
            rise = np.sin(np.linspace(0, np.pi / 2, length, dtype=np.float32))
            audio[:length] *= rise
            audio[-length:] *= rise[::-1]
            audio[:shared] += self.end[len(self.end) - shared :]
        start = self.given + len(self.end) - shared
        sound = np.concatenate([self.end[: len(self.end) - shared], audio])
        times = start / self.sample_rate, (start + len(audio)) / self.sample_rate
        silence = np.zeros(round(pause * self.sample_rate), np.float32)
        held = 0 if len(silence) or is_last else length
        self.end = sound[len(sound) - held :]
        sound = np.concatenate([sound[: len(sound) - held], silence])
        self.given += len(sound)
        return sound, times

    def _levelled(self, audio: np.ndarray) -> np.ndarray:
        if not self.match_level or not len(audio):
            return audio
        level = Clip(audio, self.sample_rate).loudness()
        if level < SILENT:
            return audio
        if self.level is None:
            self.level = level
        gain = min(max(self.level / level, 1 / MOST_GAIN), MOST_GAIN)
        # Limited so that it does not clip.
        highest = max(1.0, HIGHEST_PEAK / float(np.abs(audio).max()))
        return audio * np.float32(min(gain, highest))
