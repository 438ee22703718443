"""What the demo voice learns from: espeak-ng speaking a closed vocabulary in four voices.

espeak-ng is the Debian package of that name; its speech is no one's voice. What is learnt is a
speaking clock: each word is recorded once in each voice and takes three patches, so that the same
words always sound the same. And it has a steady pitch, put there by WORLD (Morise et al. 2016,
doi:10.1587/transinf.2015EDP7457; pyworld): a multiple of the 25 Hz at which latents follow each
other, so that each latent holds whole periods that begin where it begins. A small AudioVAE learns
that in minutes. Of a pitch that glides, latents would have to tell the phase, which it learns
hardly at all.
"""

from __future__ import annotations

import io
import subprocess
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import soundfile
import soxr

SAMPLE_RATE = 16_000
PATCH = 2560
"""Samples: four latents."""
PATCHES_PER_WORD = 3
FEWEST_PATCHES = 4
"""VoxCPM2 hears its stop head from the fourth patch on."""
FITS = 0.45
"""Seconds of a word at most; it begins LEAD seconds behind the word before."""
LEAD = 0.02
FRAME = 10.0
"""Milliseconds between the spectra that WORLD takes."""

DIGITS = "zero one two three four five six seven eight nine".split()
WORDS = (
    "hello world yes no please thanks good morning evening water "
    "coffee music red green blue left right open stop today"
).split()
CHINESE_DIGITS = list("零一二三四五六七八九")
LANGUAGES = {"en-us": DIGITS + WORDS, "cmn": CHINESE_DIGITS}
LONGEST = 8


@dataclass(frozen=True)
class Speaker:
    """espeak-ng's variant of a voice, its pitch (0..99) in English and in Chinese, where tones
    lower some voices, words per minute, and how it is described. A text alone is mostly spoken by
    the alto."""

    variant: str
    pitch: tuple[int, int]
    rate: int
    hertz: int
    """Of the steady pitch."""
    description: str
    manners: tuple[float, float, float] = (0.08, 0.42, 0.5)
    """How often it is learnt alone, described, and behind a clip of its own."""


SPEAKERS = {
    "bass": Speaker("m3", (35, 42), 165, 100, "low voice"),
    "tenor": Speaker("f1", (22, 42), 170, 150, "man"),
    "alto": Speaker("f2", (50, 72), 175, 200, "woman", (0.6, 0.15, 0.25)),
    "soprano": Speaker("f5", (76, 85), 175, 275, "high voice"),
}


def words_of(text: str) -> list[str]:
    """What is said, without a description in front: a Chinese digit is a word."""
    text = text.partition(")")[2] if text.startswith("(") else text
    return [word for part in text.split() for word in _parts(part)]


def _parts(part: str) -> list[str]:
    return list(part) if part[0] in CHINESE_DIGITS else [part]


def join_words(words: list[str]) -> str:
    return "".join(words) if words[0] in CHINESE_DIGITS else " ".join(words)


def draw_words(random: np.random.Generator, longest: int = LONGEST) -> list[str]:
    """One to eight words of one language; every third sequence is Chinese."""
    words = LANGUAGES["cmn" if random.random() < 1 / 3 else "en-us"]
    return [str(word) for word in random.choice(words, random.integers(1, longest + 1))]


def say(speaker: Speaker, words: list[str]) -> np.ndarray:
    """The words as 16 kHz float32 (samples,), 50 ms of silence before and 100 ms behind."""
    return np.pad(_say(speaker, words), (SAMPLE_RATE // 20, SAMPLE_RATE // 10))


def _say(speaker: Speaker, words: list[str]) -> np.ndarray:
    """Without the silence."""
    is_chinese = words[0] in CHINESE_DIGITS
    command = [
        "espeak-ng",
        "-v",
        f"{'cmn-latn-pinyin' if is_chinese else 'en-us'}+{speaker.variant}",
        "-p",
        str(speaker.pitch[is_chinese]),
        "-s",
        str(speaker.rate),
        "--stdout",
        join_words(words),
    ]
    wav = subprocess.run(command, capture_output=True, check=True).stdout
    sound, rate = soundfile.read(io.BytesIO(wav), dtype="float32")
    sound = soxr.resample(sound, rate, SAMPLE_RATE, quality="HQ")
    heard = np.flatnonzero(np.abs(sound) > 0.01)
    sound = sound[heard[0] : heard[-1] + 1]
    return (sound * (0.08 / np.sqrt(np.mean(sound**2)))).astype(np.float32)


def say_steadily(speaker: Speaker, words: list[str]) -> np.ndarray:
    """The words at a steady pitch, one every three patches; four patches at least."""
    sound = np.concatenate([_say_on_the_beat(speaker, word) for word in words])
    return np.pad(sound, (0, max(0, FEWEST_PATCHES * PATCH - len(sound))))


@cache
def _say_on_the_beat(speaker: Speaker, word: str) -> np.ndarray:
    """16 kHz float32 (PATCHES_PER_WORD * PATCH,): the word, faster if it is long, and silence."""
    import pyworld

    while len(sound := _say(speaker, [word])) > FITS * SAMPLE_RATE:
        speaker = replace(speaker, rate=speaker.rate + 5)
    lead, length = int(LEAD * SAMPLE_RATE), PATCHES_PER_WORD * PATCH
    sound = np.pad(sound, (lead, length - lead - len(sound))).astype(np.float64)
    pitches, times = pyworld.dio(sound, SAMPLE_RATE, f0_floor=50, frame_period=FRAME)
    pitches = pyworld.stonemask(sound, pitches, times, SAMPLE_RATE)
    envelope = pyworld.cheaptrick(sound, pitches, times, SAMPLE_RATE, f0_floor=50)
    noise = pyworld.d4c(sound, pitches, times, SAMPLE_RATE, fft_size=2 * envelope.shape[1] - 2)
    steady = np.full_like(pitches, speaker.hertz)
    made = pyworld.synthesize(steady, envelope, noise, SAMPLE_RATE, FRAME)[:length]
    made = np.pad(made, (0, length - len(made)))
    loud = made[np.abs(made) > 0.1 * np.abs(made).max()]
    return (made * 0.1 / np.sqrt(np.mean(loud**2))).clip(-1, 1).astype(np.float32)


def pitch(sound: np.ndarray, sample_rate: int) -> float:
    """The median fundamental frequency of the voiced parts in Hz, NaN where nothing is voiced.

    By autocorrelation between 55 and 400 Hz, normalised by the overlap.
    """
    length, hop = int(0.05 * sample_rate), int(0.01 * sample_rate)
    lags = np.arange(int(sample_rate / 400), int(sample_rate / 55))
    loudest, found = np.sqrt(np.mean(sound**2)), []
    for start in range(0, len(sound) - length, hop):
        frame = sound[start : start + length]
        if np.sqrt(np.mean(frame**2)) < loudest / 3:
            continue
        frame = frame - frame.mean()
        spectrum = np.fft.rfft(frame, 2 * length)
        correlation = np.fft.irfft(np.abs(spectrum) ** 2)[:length]
        likeness = correlation[lags] / correlation[0] * length / (length - lags)
        # The shortest period that is nearly as good as the best: an octave below fits as well.
        best = np.flatnonzero(likeness > 0.9 * likeness.max())[0]
        while best + 1 < len(lags) and likeness[best + 1] > likeness[best]:
            best += 1
        if likeness[best] > 0.5:
            found.append(sample_rate / lags[best])
    return float(np.median(found)) if found else float("nan")
