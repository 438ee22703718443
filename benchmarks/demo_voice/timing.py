"""Regular timing of the teacher's speech: each sound lasts a whole number of latents.

The teacher's durations are multiples of 25 ms, a latent is 40 ms: where in a latent a sound begins
depends on all sounds before it, and a small network guesses. Here a sound begins with a latent and
lasts as many as sounds of its kind do on average, so that the text alone tells what comes next.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from acoustics import HOP, LATENT, POINTS, SAMPLE_RATE
from teacher import UNIT

SILENCE, SPACE = 0, 16
PUNCTUATION = frozenset((1, 2, 3, 4, 5, 6, 9, 10, 11, 12, 13, 14, 15))
STRESS = frozenset((156, 157, 158))
AHEAD = 0.05
"""Seconds by which the teacher's audio precedes its durations."""
PATCH = 4
"""Latents per patch."""
UNITS_PER_LATENT = LATENT / SAMPLE_RATE / UNIT
BEFORE, AFTER = 1, 2
"""Latents of silence before a sentence, and the fewest after it."""
SLOWER = 1.1
"""Factor on the mean durations, as the teacher speaks fast."""
_FINAL = 5
"""Most units of a sound before a pause; the teacher's durations count part of the pause to it."""
_LAST = 3
"""Most units of the pause at the end of a sentence."""
_FEWEST = 30
"""Occurrences from which a kind of sound has a length of its own."""
Kind = tuple[int, bool, bool, str]
"""Phoneme, whether it is stressed, whether it begins a word, and what follows it."""


@dataclass(frozen=True)
class Sound:
    index: int
    """Which of the phonemes it is; stress marks and spaces belong to the sound that follows."""
    kind: Kind
    begin: float
    end: float
    """Begin and end by the teacher's durations, in units of UNIT."""

    @property
    def phoneme(self) -> int:
        return self.kind[0]


def sounds_of(phonemes: Sequence[int], durations: Sequence[int]) -> list[Sound]:
    """Sounds of a sentence without the silence around it; a pause is a sound."""
    ends, found = np.cumsum(durations), []
    begin, stressed, spaced = float(ends[0]), False, False
    for index in range(1, len(phonemes) - 1):
        phoneme, following = phonemes[index], phonemes[index + 1]
        if phoneme in STRESS or phoneme == SPACE:
            stressed |= phoneme in STRESS
            spaced |= phoneme == SPACE
            continue
        end = float(ends[index])
        if phoneme not in PUNCTUATION and following in PUNCTUATION:
            end = min(end, ends[index - 1] + _FINAL)
        if phoneme in PUNCTUATION and following == SILENCE:
            end = min(end, begin + _LAST)
        after = {SPACE: "space", SILENCE: "end"}.get(following, "phoneme")
        after = "pause" if following in PUNCTUATION else after
        found.append(Sound(index, (phoneme, stressed, spaced, after), begin, end))
        begin, stressed, spaced = end, False, False
    return found


class Timing:
    """Number of latents of each kind of sound."""

    def __init__(self, lengths: dict[Kind, int], by_phoneme: dict[int, int]):
        self.lengths, self.by_phoneme = lengths, by_phoneme

    @classmethod
    def of(cls, spoken: Iterable[tuple[Sequence[int], Sequence[int]]]) -> Timing:
        """Mean lengths, from the phonemes and durations of many sentences."""
        kinds: dict[Kind, list[float]] = defaultdict(list)
        phonemes: dict[int, list[float]] = defaultdict(list)
        for each in spoken:
            for sound in sounds_of(*each):
                kinds[sound.kind].append(sound.end - sound.begin)
                phonemes[sound.phoneme].append(sound.end - sound.begin)
        lengths = {kind: _latents(each) for kind, each in kinds.items() if len(each) >= _FEWEST}
        return cls(lengths, {phoneme: _latents(each) for phoneme, each in phonemes.items()})

    def latents(self, sound: Sound) -> int:
        length = self.lengths.get(sound.kind)
        return self.by_phoneme.get(sound.phoneme, 1) if length is None else length

    def save(self, path: Path) -> None:
        rows = [[*kind, length] for kind, length in sorted(self.lengths.items())]
        path.write_text(json.dumps({"kinds": rows, "phonemes": sorted(self.by_phoneme.items())}))

    @classmethod
    def load(cls, path: Path) -> Timing:
        stored = json.loads(path.read_text())
        lengths = {tuple(kind): length for *kind, length in stored["kinds"]}
        return cls(lengths, dict(stored["phonemes"]))

    def ends(self, sounds: Sequence[Sound]) -> np.ndarray:
        """Latent after the last one of each sound; the first begins after BEFORE latents."""
        return BEFORE + np.cumsum([self.latents(each) for each in sounds])

    def durations(self, phonemes: Sequence[int], natural: Sequence[int]) -> list[int]:
        """The teacher's durations, changed to this timing as far as their unit allows.

        Sounds before a pause, and pauses, keep theirs: the teacher counts part of the pause to the
        sound before it.
        """
        found, before, owed = list(natural), 0, 0.0
        for sound in sounds_of(phonemes, natural):
            own, before = slice(before + 1, sound.index + 1), sound.index
            if sound.phoneme in PUNCTUATION or sound.kind[3] in ("pause", "end"):
                owed = 0.0
                continue
            parts = own.stop - own.start
            wanted = UNITS_PER_LATENT * self.latents(sound) + owed
            total = max(parts, round(wanted))
            owed = wanted - total
            ends = np.round(np.cumsum(natural[own]) / np.sum(natural[own]) * total)
            ends = np.maximum(ends, np.arange(parts) + 1)
            ends = np.minimum(ends, total - np.arange(parts)[::-1])
            found[own] = np.diff(ends, prepend=0).astype(int).tolist()
        return found

    def seconds(self, phonemes: Sequence[int], durations: Sequence[int]) -> np.ndarray:
        """Time in the teacher's speech of each point in this timing, silence around it included."""
        sounds = sounds_of(phonemes, durations)
        ends = self.ends(sounds)
        latents = whole_patches(int(ends[-1]))
        natural = np.array([sounds[0].begin, *(each.end for each in sounds)]) * UNIT - AHEAD
        new = np.append(BEFORE, ends) * LATENT / SAMPLE_RATE
        new = np.concatenate([[0.0], new, [latents * LATENT / SAMPLE_RATE]])
        silences = natural[0] - new[1], natural[-1] + new[-1] - new[-2]
        natural = np.concatenate([silences[:1], natural, silences[1:]])
        points = (np.arange(latents * POINTS) + 1) * HOP / SAMPLE_RATE
        return np.interp(points, new, natural)


def timing_of(folder: Path) -> Timing:
    """Lengths of the sounds in FOLDER's sentences."""
    path = folder / "labels" / "timing.json"
    if not path.exists():
        rows = json.loads((folder / "labels" / "sentences.json").read_text(encoding="utf-8"))
        Timing.of((phonemes, durations) for _, phonemes, durations in rows).save(path)
    return Timing.load(path)


def whole_patches(speech: int) -> int:
    """Latents of whole patches that hold `speech` latents and the silence after them."""
    return -(-(speech + AFTER) // PATCH) * PATCH


def _latents(units: Sequence[float]) -> int:
    return max(1, round(SLOWER * float(np.mean(units)) / UNITS_PER_LATENT))
