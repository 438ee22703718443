"""What the recogniser learns from: espeak-ng saying the words in ways the demo voice never heard.

Other sequences, rates, pitches and some other voices; pauses, words that are none of the
vocabulary's, speech played backwards; and damage such as a vocoder does.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from recogniser import OTHER
from speech import CHINESE_DIGITS, SAMPLE_RATE, SPEAKERS, Speaker, draw_words, say

STRANGERS = ("m1", "m7", "f3", "f4")
ENGLISH_OTHERS = (
    "table window garden purple yellow because under mother people little number paper summer "
    "winter house river mountain picture animal country school letter answer study learn plant "
    "cover between never start city earth eye light thought head under story saw few "
    "while along might close something seem next hard example begin life always those both "
    "together often run important until children side feet car mile night walk white sea began "
    "grow took carry state once book hear without second later miss idea enough eat face watch "
    "far really almost let above girl sometimes cut young talk soon list song being leave family"
).split()
CHINESE_OTHERS = list(
    "天地人山水火木土中国大小我你他好吃看书走来回家门车马鸟花草风云海河老师学生朋东南"
)
# Not used in training, to see whether what is unknown is told from the words.
UNHEARD_ENGLISH = (
    "banana kitchen orange silver doctor market basket pencil yesterday supper".split()
)
UNHEARD_CHINESE = list("电脑红绿黑白手机桌高")
ONSETS = "b d f g k l m n p r s t v sh ch th br dr fl gr kl pl st tr".split()
VOWELS = "a e i o u ee oo ai ow ar".split()


def vary(speaker: Speaker, random: np.random.Generator) -> Speaker:
    """A speaker a little faster or slower, higher or lower."""
    shift = random.integers(-8, 9)
    return replace(
        speaker,
        pitch=tuple(int(np.clip(pitch + shift, 0, 99)) for pitch in speaker.pitch),
        rate=int(speaker.rate * random.uniform(0.88, 1.12)),
    )


def _nonsense(random: np.random.Generator) -> str:
    syllables = random.integers(2, 4)
    return "".join(random.choice(ONSETS) + random.choice(VOWELS) for _ in range(syllables))


def others(words: list[str], random: np.random.Generator, unheard: bool) -> list[str]:
    """As many words which are none of the vocabulary's, of the language of `words`."""
    if words[0] in CHINESE_DIGITS:
        return list(random.choice(UNHEARD_CHINESE if unheard else CHINESE_OTHERS, len(words)))
    known = UNHEARD_ENGLISH if unheard else ENGLISH_OTHERS
    return [
        str(random.choice(known)) if unheard or random.random() < 0.6 else _nonsense(random)
        for _ in words
    ]


def with_others(
    words: list[str], random: np.random.Generator, unheard: bool = False
) -> tuple[list[str], list[str]]:
    """Some words replaced: what is said, and what is to be heard. The first Chinese one stays,
    by which `say` knows the language."""
    strange = random.random(len(words)) < 0.45
    strange[0] &= words[0] not in CHINESE_DIGITS
    spoken = np.where(strange, others(words, random, unheard), words).tolist()
    heard = [
        OTHER if odd else word
        for word, odd, before in zip(words, strange, [False, *strange[:-1]], strict=True)
        if not (odd and before)
    ]
    return spoken, heard


def utterance(random: np.random.Generator) -> tuple[np.ndarray, list[str]]:
    """16 kHz sound (samples,) and what is to be heard in it."""
    speaker = SPEAKERS[str(random.choice(list(SPEAKERS)))]
    if random.random() < 0.15:
        speaker = replace(speaker, variant=str(random.choice(STRANGERS)))
    speaker, words, kind = vary(speaker, random), draw_words(random), random.random()
    if kind < 0.35:
        spoken, words = with_others(words, random)
        sound = say(speaker, spoken)
    elif kind < 0.42:
        sound, words = say(speaker, words)[::-1], [OTHER]
    elif kind < 0.57 and len(words) > 1:
        # In two breaths.
        cut = random.integers(1, len(words))
        sound = np.concatenate([say(speaker, words[:cut]), say(speaker, words[cut:])])
    else:
        sound = say(speaker, words)
    silence = random.uniform(0, 0.5, 2) * SAMPLE_RATE * (random.random() < 0.3)
    return np.pad(sound, silence.astype(int)), words


def noisy(sound: np.ndarray, random: np.random.Generator, decibels: float) -> np.ndarray:
    """With white noise that many dB below."""
    level = np.sqrt(np.mean(sound**2)) * 10 ** (-decibels / 20)
    return sound + level * random.standard_normal(len(sound))


def band_limited(sound: np.ndarray, low: float, high: float) -> np.ndarray:
    spectrum = np.fft.rfft(sound)
    frequencies = np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE)
    return np.fft.irfft(spectrum * ((frequencies >= low) & (frequencies <= high)), len(sound))


def smeared(
    sound: np.ndarray, random: np.random.Generator, phase: float = 1.0, level: float = 0.0
) -> np.ndarray:
    """Its short-time spectra (512/128) with phases off by up to `phase` half turns and magnitudes
    by `level` nepers: what a vocoder gets wrong."""
    size, hop = 512, 128
    window = np.hanning(size + 1)[:-1]
    padded = np.pad(sound, (size, size + -len(sound) % hop))
    starts = np.arange(0, len(padded) - size + 1, hop)
    spectra = np.fft.rfft(padded[starts[:, None] + np.arange(size)] * window)
    spectra *= np.exp(1j * np.pi * phase * random.uniform(-1, 1, spectra.shape))
    spectra *= np.exp(level * random.standard_normal(spectra.shape))
    made = np.zeros(len(padded))
    for start, frame in zip(starts, np.fft.irfft(spectra) * window / 1.5, strict=True):
        made[start : start + size] += frame
    return made[size : size + len(sound)]


def damaged(sound: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """One or two kinds of damage of any strength."""
    if random.random() < 0.6:
        sound = smeared(sound, random, random.uniform(0, 1), random.uniform(0, 0.5))
    if random.random() < 0.4:
        sound = band_limited(sound, random.uniform(0, 250), random.uniform(3000, 8000))
    if random.random() < 0.5:
        sound = noisy(sound, random, random.uniform(12, 35))
    return sound
