"""Hears the demo voice's words: what it says is measured, not judged by ear.

A small convolutional network over cepstra, trained by `train_recogniser.py` on espeak-ng with
connectionist temporal classification (Graves et al. 2006). Needs neither espeak-ng nor a network.
"""

from __future__ import annotations

import mlx_voxcpm2  # noqa: F401  # before MLX, so that it finds a fast BLAS on Linux  # isort: skip

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import soxr
from mlx.utils import tree_flatten, tree_map
from speech import CHINESE_DIGITS, DIGITS, SAMPLE_RATE, WORDS

WEIGHTS = Path(__file__).with_name("recogniser.safetensors")

# What is spoken but none of the words.
OTHER = "?"
BLANK, *VOCABULARY = "", *DIGITS, *WORDS, *CHINESE_DIGITS, OTHER
# A word that the network is less sure of is not taken for one.
SURE = 0.5

WINDOW, HOP, BANDS, CEPSTRA = 400, 160, 26, 16
FRAMES_PER_STEP = 3
WIDTH, DILATIONS = 64, (1, 2, 4, 1, 2, 4, 1)


@dataclass(frozen=True)
class Heard:
    """A word, or OTHER; about where in the sound, in seconds; the network's probability."""

    word: str
    seconds: float
    probability: float


@cache
def _filters() -> np.ndarray:
    """Triangles (257, BANDS), evenly spaced in mel from 60 Hz to 7 kHz."""
    mel = np.linspace(*(2595 * np.log10(1 + np.array([60, 7000]) / 700)), BANDS + 2)
    corners = 700 * (10 ** (mel / 2595) - 1)
    low, middle, high = corners[:-2], corners[1:-1], corners[2:]
    bins = np.linspace(0, SAMPLE_RATE / 2, 257)[:, None]
    return np.maximum(0, np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)))


@cache
def _cosines() -> np.ndarray:
    """The discrete cosine transform (BANDS, CEPSTRA)."""
    angles = np.pi * np.outer(np.arange(BANDS) + 0.5, np.arange(CEPSTRA)) / BANDS
    return np.cos(angles) * np.sqrt(2 / BANDS)


def cepstra(sound: np.ndarray) -> np.ndarray:
    """16 kHz sound (samples,) -> (steps, FRAMES_PER_STEP * CEPSTRA), float32, about -3..3.

    Neither the level nor a fixed filter of the sound counts: the mean over the loud frames is
    taken off, and what is 40 dB below the loudest is as good as silence.
    """
    frames = 1 + max(0, len(sound) - WINDOW) // HOP
    frames += -frames % FRAMES_PER_STEP
    sound = np.pad(sound, (0, max(0, (frames - 1) * HOP + WINDOW - len(sound))))
    index = np.arange(WINDOW) + HOP * np.arange(frames)[:, None]
    power = np.abs(np.fft.rfft(sound[index] * np.hanning(WINDOW), 512)) ** 2
    loudness = power.sum(-1)
    bands = power @ _filters()
    logs = np.log(bands + 1e-4 * bands.max() + 1e-12)
    values = logs @ _cosines()
    loud = loudness >= 1e-3 * loudness.max()
    values = (values - values[loud].mean(0)) / 3
    return values.reshape(-1, FRAMES_PER_STEP * CEPSTRA).astype(np.float32)


class Block(nn.Module):
    def __init__(self, dilation: int):
        super().__init__()
        self.norm, self.dilation = nn.LayerNorm(WIDTH), dilation
        self.mix = nn.Linear(3 * WIDTH, WIDTH)

    def __call__(self, x: mx.array, mask: mx.array) -> mx.array:
        # A convolution as one matrix product: MLX's dilated one is many times slower on a CPU.
        ahead, length = self.dilation, x.shape[1]
        padded = mx.pad(self.norm(x) * mask, ((0, 0), (ahead, ahead), (0, 0)))
        taps = [padded[:, ahead * tap : ahead * tap + length] for tap in range(3)]
        return x + nn.relu(self.mix(mx.concatenate(taps, axis=-1)))


class Network(nn.Module):
    """cepstra (B, T, F) and mask (B, T, 1) -> logits (B, T, words); hears half a second around."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(FRAMES_PER_STEP * CEPSTRA, WIDTH)
        self.blocks = [Block(dilation) for dilation in DILATIONS]
        self.norm = nn.LayerNorm(WIDTH)
        self.last = nn.Linear(WIDTH, 1 + len(VOCABULARY))

    def __call__(self, x: mx.array, mask: mx.array) -> mx.array:
        x = self.first(x)
        for block in self.blocks:
            x = block(x, mask)
        return self.last(self.norm(x))

    def save(self, path: Path) -> None:
        halves = tree_map(lambda value: value.astype(mx.float16), self.parameters())
        mx.save_safetensors(str(path), dict(tree_flatten(halves)))

    @classmethod
    def load(cls, path: Path = WEIGHTS) -> Network:
        network = cls()
        weights = mx.load(str(path))
        network.load_weights([(name, each.astype(mx.float32)) for name, each in weights.items()])
        return network


def stack(features: Sequence[np.ndarray]) -> tuple[mx.array, mx.array]:
    """Features (T, F) of several sounds -> (B, T, F), filled up with zeros, and mask (B, T, 1)."""
    lengths = np.array([len(each) for each in features])
    filled = np.zeros((len(features), lengths.max(), features[0].shape[-1]), dtype=np.float32)
    for row, each in zip(filled, features, strict=True):
        row[: len(each)] = each
    mask = np.arange(lengths.max()) < lengths[:, None]
    return mx.array(filled), mx.array(mask[..., None].astype(np.float32))


def collapse(probabilities: np.ndarray) -> list[Heard]:
    """(T, words) -> the most probable word of each step, repetitions and blanks left out."""
    best, found = probabilities.argmax(-1), []
    starts = np.flatnonzero(np.diff(best, prepend=-1))
    for start, end in zip(starts, [*starts[1:], len(best)], strict=True):
        if best[start]:
            peak = start + probabilities[start:end, best[start]].argmax()
            probability = float(probabilities[peak, best[start]])
            word = VOCABULARY[best[start] - 1] if probability >= SURE else OTHER
            seconds = (peak + 0.5) * FRAMES_PER_STEP * HOP / SAMPLE_RATE
            found.append(Heard(word, float(seconds), probability))
    return found


@cache
def _trained() -> Network:
    return Network.load()


def hear(sound: np.ndarray, sample_rate: int, network: Network | None = None) -> list[Heard]:
    """What a sound (samples,) says, in order; OTHER where that is none of the words."""
    sound = soxr.resample(np.asarray(sound, dtype=np.float32), sample_rate, SAMPLE_RATE)
    if not np.abs(sound).max(initial=0) > 1e-3:
        return []  # silence, which the features would make loud
    features, mask = stack([cepstra(sound)])
    return collapse(np.array(mx.softmax((network or _trained())(features, mask)[0], axis=-1)))


def recognise(sound: np.ndarray, sample_rate: int) -> list[str]:
    """The words of a sound (samples,), with OTHER for what is none of them."""
    return [heard.word for heard in hear(sound, sample_rate)]
