"""Acoustics of the teacher's speech, from the spectra that its network predicts.

hibari's network predicts amplitudes of the harmonics, of noise, and of a part with phases of its
own, which is mostly noise too; hibari/dsp.py makes the audio of them. An analysis of the audio
would find one outcome of that noise, which no text can tell. Only the aperiodicity is measured
(D4C: Morise 2016, doi:10.1016/j.specom.2016.09.001; pyworld), as the third part is often in phase
with the harmonics.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from acoustics import APERIODICITY_AT, FFT, SAMPLE_RATE, Acoustics, frequencies, mel_filters

FRAME = 0.0125
"""Interval of the frames in seconds."""
VOICED = 40.0
"""Lowest voiced pitch in Hz."""
_SIZE, _RATE = 1200, 24_000
_HERTZ = np.arange(_SIZE // 2 + 1) * _RATE / _SIZE
_OVERLAP = 1.5
"""Sum of the squared Hann windows over a sample."""
_LARGEST = 7.0
"""Highest logarithm of an amplitude."""


@dataclass(frozen=True)
class Spectra:
    """Spectra at F frames, the first at the audio's beginning; B frequencies from 0 to 12 kHz."""

    harmonic: np.ndarray
    """Logarithm of the harmonics' amplitudes (B, F), times a quarter of the window's length."""
    turn: np.ndarray
    """Phase of the harmonics (B, F), before tanh, in half turns."""
    noise: np.ndarray
    """Logarithm of the noise's amplitudes (B, F)."""
    free: np.ndarray
    """Logarithm of the amplitudes of the part with its own phases (B, F)."""
    pitch: np.ndarray
    """Pitch in Hz (F,) in the middle between a frame and the next; 0 where unvoiced."""

    def acoustics(self, audio: np.ndarray, seconds: np.ndarray) -> Acoustics:
        """Acoustics at the times (P,), which need not be even; audio is that of these spectra."""
        import pyworld

        frames = np.arange(len(self.pitch))
        middles, voiced = (frames + 0.5) * FRAME, self.pitch > VOICED
        nearest = np.clip(np.round(seconds / FRAME - 0.5).astype(int), 0, frames[-1])
        pitch = np.zeros(len(seconds))
        if voiced.any():
            between = np.interp(seconds, middles[voiced], self.pitch[voiced])
            pitch = np.where(voiced[nearest], between, 0.0)
        noise = pyworld.d4c(audio.astype(np.float64), pitch, seconds, SAMPLE_RATE, fft_size=FFT)
        bins = [np.abs(frequencies() - hertz).argmin() for hertz in APERIODICITY_AT]
        envelope = np.stack([np.interp(seconds, frames * FRAME, band) for band in self.envelope], 1)
        return Acoustics(envelope, np.where(pitch[:, None] > 0, noise[:, bins], 1.0), pitch)

    @cached_property
    def envelope(self) -> np.ndarray:
        """Logarithm of the power spectral density (BANDS, F) as in `Acoustics.envelope`."""
        turned = np.exp(np.minimum(self.harmonic, _LARGEST) + 1j * np.pi * np.tanh(self.turn))
        amplitude = np.abs(_overlapped(turned)) / (_SIZE / 4)
        # The variance of an inverse transform's sample, per hertz.
        density = 1 / (_OVERLAP * _SIZE * _RATE / 2)
        noise = 2 * np.exp(2 * self.noise) + np.exp(2 * np.minimum(self.free, _LARGEST))
        power = density * _overlapped(noise) + self._between_harmonics(amplitude)
        return np.log(mel_filters(_HERTZ) @ power * SAMPLE_RATE / 2 + 1e-10)

    def _between_harmonics(self, amplitude: np.ndarray) -> np.ndarray:
        """Power per hertz (B, F) of the harmonics.

        Between multiples of the pitch, where the network's amplitudes mean nothing, their
        logarithms are interpolated.
        """
        before = np.append(self.pitch[:1], self.pitch[:-1])
        power = np.zeros_like(amplitude)
        for frame, pitches in enumerate(zip(before, self.pitch, strict=True)):
            voiced = [pitch for pitch in pitches if pitch > VOICED]
            if voiced:
                pitch = sum(voiced) / len(voiced)
                harmonics = np.arange(1, int(SAMPLE_RATE / 2 / pitch) + 2) * pitch
                known = np.interp(harmonics, _HERTZ, np.log(amplitude[:, frame] + 1e-9))
                between = np.exp(2 * np.interp(_HERTZ, harmonics, known)) / 2 / pitch
                power[:, frame] = between * len(voiced) / 2
        return power


def _overlapped(values: np.ndarray) -> np.ndarray:
    """Mean of three frames, as their squared windows overlap in the audio."""
    padded = np.pad(values, ((0, 0), (1, 1)), mode="edge")
    return (padded[:, :-2] / 4 + padded[:, 1:-1] + padded[:, 2:] / 4) / _OVERLAP
