"""Whisper's log-mel spectrogram, of the whole sound at once and then cut into chunks.

Source: transformers, models/whisper/feature_extraction_whisper.py, as Voxtral's processor calls it.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from .config import MEL_HOP, SAMPLE_RATE

WINDOW = 400
_LOWEST = 1e-10
"""Power below which a bin counts as silent."""
_RANGE = 8.0
"""Decades below the loudest bin of the whole sound at which all others are cut off."""


def log_mel(samples: np.ndarray, bins: int, chunk_samples: int) -> np.ndarray:
    """samples (L,), 16 kHz, -1..1 -> (chunks, frames, bins), float32; the last chunk is padded.

    Chunk by chunk, so that the spectra of an hour are never in memory together.
    """
    chunks = max(1, math.ceil(len(samples) / chunk_samples))
    padded = np.pad(samples.astype(np.float32), (0, chunks * chunk_samples - len(samples)))
    padded = np.pad(padded, WINDOW // 2, mode="reflect")
    filters = mel_filters(bins)
    # The frame that would be centred behind the last sample is left out.
    spectra = np.empty((chunks, chunk_samples // MEL_HOP, bins), np.float32)
    for chunk, mel in enumerate(spectra):
        start = chunk * chunk_samples
        mel[:] = _power(padded[start : start + chunk_samples + WINDOW - MEL_HOP]) @ filters
    levels = np.log10(np.maximum(spectra, _LOWEST, out=spectra), out=spectra)
    np.maximum(levels, levels.max() - np.float32(_RANGE), out=levels)
    levels += 4
    levels /= 4
    return levels


def _power(samples: np.ndarray) -> np.ndarray:
    """Power spectrum of every window, (frames, WINDOW / 2 + 1)."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::MEL_HOP]
    spectrum = np.fft.rfft(frames * _window(), axis=-1)
    return (spectrum.real**2 + spectrum.imag**2).astype(np.float32, copy=False)


@cache
def _window() -> np.ndarray:
    """Periodic Hann window."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)).astype(np.float32)


@cache
def mel_filters(bins: int) -> np.ndarray:
    """Triangles of equal area from 0 Hz to half of the sample rate, (WINDOW / 2 + 1, bins).

    Slaney's scale: linear up to 1000 Hz, logarithmic above (Auditory Toolbox, 1998).
    """
    corners = _hertz(np.linspace(0, _mel(SAMPLE_RATE / 2), bins + 2))
    frequencies = np.linspace(0, SAMPLE_RATE / 2, WINDOW // 2 + 1)
    slopes = (frequencies[:, None] - corners) / np.diff(corners, append=np.inf)
    rising, falling = slopes[:, :-2], 1 - slopes[:, 1:-1]
    triangles = np.maximum(0, np.minimum(rising, falling))
    return (triangles * (2 / (corners[2:] - corners[:-2]))).astype(np.float32)


_LINEAR_STEP = 200 / 3
"""Hertz per mel below 1000 Hz, which is 15 mel."""
_LOG_STEP = math.log(6.4) / 27
"""Natural logarithm of the ratio of two frequencies one mel apart, above 1000 Hz."""


def _mel(hertz: float) -> float:
    return hertz / _LINEAR_STEP if hertz < 1000 else 15 + math.log(hertz / 1000) / _LOG_STEP


def _hertz(mel: np.ndarray) -> np.ndarray:
    return np.where(mel < 15, _LINEAR_STEP * mel, 1000 * np.exp(_LOG_STEP * (mel - 15)))
