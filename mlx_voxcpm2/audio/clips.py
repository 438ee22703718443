"""Clips that voices are cloned from: their level, their faults, and cleaning.

Upstream uses clips as they are, so generation only warns. A voice that is saved is levelled and
trimmed: VoxCPM2 clones a quiet clip as a whisper, and other programs scale to the same level.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .reading import AudioSource, cancels_out, one_channel, read_channels

FRAME_SECONDS = 0.02

# RMS levels of the frames with speech; full scale is 1.
SILENT = 0.001
QUIET = 0.04
USUAL = 0.08
HIGHEST_PEAK = 0.95

# A frame has speech if it is less than 30 dB below the loudest.
SPEAKING = 10 ** (-30 / 20)
# Speech should be 15 dB above the noise between the words.
NOISY = 10 ** (-15 / 20)

# Mean of the samples that is more than an inexact recorder's.
OFFSET = 0.01

SHORTEST, LONGEST = 2.0, 60.0
LEAST_SPEECH = 0.4
LONG_SILENCE, KEPT_SILENCE = 0.5, 0.2

# Number of successive samples at the peak value that count as clipped.
FLAT_SAMPLES = 4


@dataclass(frozen=True, eq=False)
class Clip:
    """Clip at the encoder's rate, with the number of places at which the original is clipped."""

    samples: np.ndarray
    """float32 (L,), nominally -1..1."""
    sample_rate: int
    clipped_places: int = 0
    is_inverted: bool = False
    """Whether the original's channels cancel out, so that only one of them is used."""

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.sample_rate

    def loudness(self) -> float:
        """RMS level of the frames with speech, 0..1; 0 if there are none."""
        frames = self._frames()
        speaking = np.minimum(frames, highest_level(frames))[self._speaking(frames)]
        return float(np.sqrt(np.mean(speaking**2))) if len(speaking) else 0.0

    @property
    def offset(self) -> float:
        """Mean of the samples if that is no more a detail, else 0."""
        mean = float(self.samples.mean(dtype=np.float64))
        return mean if abs(mean) > OFFSET else 0.0

    @property
    def is_silent(self) -> bool:
        return self.loudness() < SILENT

    def problems(self) -> list[str]:
        """Faults that make a poor voice, each as a clause that says what to do."""
        loudness = self.loudness()
        if self.is_silent:
            return ["holds nothing but silence; give clear speech"]
        frames = self._frames()
        speaking = self._speaking(frames)
        seconds = speaking.sum() * FRAME_SECONDS
        found = []
        if self.is_inverted:
            found.append(
                "has channels that cancel out, one upside down, so that only one is used; give one "
                "channel"
            )
        if self.offset:
            found.append(
                f"is {self.offset:+.2f} off zero (a DC offset), and may click; record it without"
            )
        if self.clipped_places:
            found.append(
                f"is clipped at {self.clipped_places} places, and the voice may sound as harsh; "
                "record it at a lower level"
            )
        if loudness < QUIET:
            found.append(
                f"is quiet ({_decibels(loudness):.0f} dB, usual are {_decibels(USUAL):.0f}) and "
                "may be cloned as a whisper; make it louder"
            )
        if seconds < SHORTEST:
            found.append(f"holds only {seconds:.1f} s of speech; 5 to 30 s are best")
        if self.seconds > LONGEST:
            found.append(f"is {self.seconds:.0f} s long; 5 to 30 s are best, cut it")
        if speaking.mean() < LEAST_SPEECH:
            found.append("is mostly silence; cut the pauses out")
        if np.percentile(frames, 5) > NOISY * loudness:
            found.append("is noisy between the words, or has no pauses; a clean clip is better")
        return found

    def cleaned(self) -> tuple[Clip, list[str]]:
        """Remove an offset, trim long silence at both ends and raise a low level.

        Returns the clip, and a line per change.
        """
        if self.offset:
            clip, changes = replace(self, samples=self.samples - np.float32(self.offset)).cleaned()
            return clip, [
                f"its samples were {self.offset:+.2f} off zero, and are no more",
                *changes,
            ]
        clip, changes = self, []
        frames = self._frames()
        at = np.flatnonzero(self._speaking(frames)) * round(FRAME_SECONDS * self.sample_rate)
        if len(at):
            clip, seconds = self._trimmed(at[0], at[-1])
            if seconds:
                changes.append(f"{seconds:.1f} s of silence at its ends were cut off")
        loudness = clip.loudness()
        if SILENT <= loudness < QUIET:
            gain = min(USUAL / loudness, HIGHEST_PEAK / float(np.abs(clip.samples).max()))
            if gain > 1:
                clip = replace(clip, samples=clip.samples * np.float32(gain))
                changes.append(f"it was quiet, and is now {_decibels(gain):.0f} dB louder")
        return clip, changes

    def _trimmed(self, first: int, last: int) -> tuple[Clip, float]:
        """The clip from speech to speech, and the seconds cut off.

        first, last: index of the first sample of the first and of the last frame with speech.
        """
        long, kept = (round(s * self.sample_rate) for s in (LONG_SILENCE, KEPT_SILENCE))
        last += round(FRAME_SECONDS * self.sample_rate)
        start = first - kept if first > long else 0
        end = last + kept if len(self.samples) - last > long else len(self.samples)
        trimmed = replace(self, samples=self.samples[start:end])
        return trimmed, self.seconds - trimmed.seconds

    def _frames(self) -> np.ndarray:
        """RMS levels of frames of 20 ms; one frame if the clip is shorter."""
        length = min(round(FRAME_SECONDS * self.sample_rate), len(self.samples))
        whole = self.samples[: len(self.samples) // length * length].reshape(-1, length)
        return np.sqrt(np.mean((whole.astype(np.float64) - self.offset) ** 2, axis=1))

    def _speaking(self, frames: np.ndarray) -> np.ndarray:
        """Whether each frame has speech."""
        return (frames > 0) & (frames >= SPEAKING * highest_level(frames))


def highest_level(frames: np.ndarray, seconds: float = 0.5) -> float:
    """RMS level that at least `seconds` of the frames, or half of them, reach: clicks don't count.

    frames: RMS levels of `FRAME_SECONDS` each.
    """
    count = min(round(seconds / FRAME_SECONDS), (len(frames) + 1) // 2)
    return float(np.partition(frames, -count)[-count])


def read_clip(source: AudioSource, sample_rate: int, name: str = "audio") -> Clip:
    """Reads audio as a clip at `sample_rate` Hz. source, name, errors: see `read_channels`."""
    channels, rate = read_channels(source, name)
    places = sum(_flat_tops(side * channel) for channel in channels.T for side in (1, -1))
    is_inverted = cancels_out(channels, channels.mean(axis=1))
    return Clip(one_channel(channels, rate, sample_rate), sample_rate, places, is_inverted)


def _flat_tops(samples: np.ndarray) -> int:
    """Number of places at which samples (L,) stay at full scale, which is near 1."""
    top = samples.max()
    if top < 0.98:
        return 0
    changes = np.diff((samples == top).astype(np.int8), prepend=0, append=0)
    lengths = np.flatnonzero(changes == -1) - np.flatnonzero(changes == 1)
    return int((lengths >= FLAT_SAMPLES).sum())


def _decibels(ratio: float) -> float:
    return 20 * float(np.log10(ratio))
