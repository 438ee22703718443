"""Speech as its spectral envelope, its aperiodicity and its pitch, every 10 ms.

They are as in WORLD (Morise et al. 2016, doi:10.1587/transinf.2015EDP7457); spectra.py has those of
the teacher's speech. The synthesis is this module's own, since it decides the phase of every
harmonic and of the noise: see `synthesize`. 16 kHz throughout.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SAMPLE_RATE = 16_000
LATENT = 640
"""Samples of a latent: 40 ms."""
POINTS = 4
"""Envelopes per latent."""
HOP = LATENT // POINTS
FFT = 1024
BANDS, LOWEST, HIGHEST = 32, 60.0, 8000.0
"""Number of mel bands of the envelope, and the lowest and highest centre in Hz."""
APERIODICITY_AT = (1000, 2000, 3000, 4000, 6000, 8000)
"""Frequencies of the aperiodicity in Hz; below the first it falls to 0."""
_EDGE = 7800.0
"""Highest frequency of a harmonic in Hz."""
_NOISE = np.random.default_rng(40).standard_normal(LATENT)
"""Excitation of all noise, the same in every latent."""


@dataclass(frozen=True)
class Acoustics:
    """Acoustics at P points: the first is HOP samples from the beginning, the last at the end."""

    envelope: np.ndarray
    """Logarithm of the power spectral density (P, BANDS)."""
    aperiodicity: np.ndarray
    """Noise's part of the power (P, frequencies), 0..1, at APERIODICITY_AT."""
    pitch: np.ndarray
    """Pitch in Hz (P,), 0 where unvoiced."""


def to_mel(hertz: np.ndarray | float) -> np.ndarray:
    return 2595 * np.log10(1 + np.asarray(hertz) / 700)


def from_mel(mel: np.ndarray) -> np.ndarray:
    return 700 * (10 ** (mel / 2595) - 1)


def frequencies() -> np.ndarray:
    """Frequencies of the FFT's bins (FFT // 2 + 1,) in Hz."""
    return np.arange(FFT // 2 + 1) * SAMPLE_RATE / FFT


def centres() -> np.ndarray:
    """Centres of the mel bands (BANDS,) in Hz."""
    return from_mel(np.linspace(to_mel(LOWEST), to_mel(HIGHEST), BANDS))


def mel_filters(hertz: np.ndarray) -> np.ndarray:
    """Triangular filters (BANDS, frequencies) of weight 1 over frequencies in even steps.

    Those narrower than a step have weight at the nearest frequency only.
    """
    middles = to_mel(centres())
    distance = np.abs(to_mel(hertz)[None] - middles[:, None]) / (middles[1] - middles[0])
    weights = np.maximum(0, 1 - distance)
    nearest = np.eye(len(hertz))[np.abs(hertz[None] - centres()[:, None]).argmin(1)]
    weights = np.where(weights.sum(1, keepdims=True) < 0.5, nearest, weights)
    return weights / weights.sum(1, keepdims=True)


def synthesize(acoustics: Acoustics, phase: np.ndarray, frequency: np.ndarray) -> np.ndarray:
    """Audio (P * HOP,) float32: harmonics and noise, filtered by the envelope.

    phase: of each sample, in cycles; frequency: its slope in Hz. The filters have minimum phase and
    the noise is the same in every latent, so that the phase and the acoustics decide every sample.
    A sample depends on the points before it and on the next one.
    """
    density = _spread(acoustics.envelope)
    noisy = _noise_part(acoustics)
    response = _minimum_phase(density)
    pulses = _pulses(phase, frequency)
    noise = np.resize(_NOISE, len(pulses))
    audio = _filtered(pulses, response * np.sqrt(1 - noisy))
    return (audio + _filtered(noise, response * np.sqrt(noisy))).astype(np.float32)


def _spread(envelope: np.ndarray) -> np.ndarray:
    """Interpolates (P, BANDS) to (P, frequencies), linearly on the mel scale."""
    middles = to_mel(centres())
    place = (to_mel(frequencies()) - middles[0]) / (middles[1] - middles[0])
    place = np.clip(place, 0, BANDS - 1)
    below = np.minimum(place.astype(int), BANDS - 2)
    return envelope[:, below] * (1 - place + below) + envelope[:, below + 1] * (place - below)


def _noise_part(acoustics: Acoustics) -> np.ndarray:
    """Noise's part of the power (P, frequencies)."""
    known = np.pad(np.clip(acoustics.aperiodicity, 0, 1), ((0, 0), (1, 0)))
    places = [0, *APERIODICITY_AT]
    return np.stack([np.interp(frequencies(), places, row) for row in known])


def _minimum_phase(density: np.ndarray) -> np.ndarray:
    """Complex minimum-phase response (P, frequencies) of a log power, by the cepstrum."""
    cepstrum = np.fft.irfft(density / 2, FFT, axis=1)
    cepstrum[:, 1 : FFT // 2] *= 2
    cepstrum[:, FFT // 2 + 1 :] = 0
    return np.exp(np.fft.rfft(cepstrum, FFT, axis=1))


def _pulses(phase: np.ndarray, frequency: np.ndarray) -> np.ndarray:
    """Pulse train: equal cosines of all harmonics, with the power of noise of variance 1."""
    angle = phase % 1.0 * 2 * np.pi
    order = np.floor(_EDGE / frequency) + 0.5
    below = 2 * np.sin(angle / 2)
    at_pulse = np.abs(below) < 2e-3
    total = np.where(at_pulse, order, np.sin(order * angle) / np.where(at_pulse, 1, below))
    return (total - 0.5) * 2 * np.sqrt(frequency / SAMPLE_RATE)


def _filtered(excitation: np.ndarray, responses: np.ndarray) -> np.ndarray:
    """Excitation (P * HOP,), each frame filtered by its point's response (P, frequencies)."""
    window = np.hanning(2 * HOP + 1)[:-1]
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(excitation, (0, HOP)), 2 * HOP)[::HOP]
    spectra = np.fft.rfft(frames * window, FFT, axis=1)
    outputs = np.fft.irfft(spectra * responses, FFT, axis=1)
    points, parts = len(outputs), -(-FFT // HOP)
    outputs = np.pad(outputs, ((0, 0), (0, parts * HOP - FFT))).reshape(points, parts, HOP)
    total = np.zeros((points + parts, HOP))
    for part in range(parts):
        total[part : part + points] += outputs[:, part]
    return total[:points].reshape(-1)
