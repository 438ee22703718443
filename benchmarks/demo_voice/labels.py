"""Phoneme labels by time, without audio, that teach a language model to read.

  python benchmarks/demo_voice/labels.py FOLDER

The teacher gives phonemes and durations of each text; from these come the phoneme of each latent
(40 ms), and the characters that are read during each patch (four latents). Writes FOLDER/labels/
held.json, sentences.json and words.json; the last has sequences of the teacher's lexicon's words,
for spellings that no sentence has, without the held-out words. Also FOLDER/tokenizer.json.
The sounds' lengths are written to FOLDER/labels/timing.json when they are first needed.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from sentences import held_out, training_sentences, wordnet_words, words_of
from spelling import learn_pairs, write_tokenizer
from teacher import own_teacher, teachers
from timing import (
    BEFORE,
    PATCH,
    PUNCTUATION,
    SILENCE,
    SPACE,
    STRESS,
    Timing,
    sounds_of,
    timing_of,
    whole_patches,
)

from mlx_voxcpm2.weights.hub import BUILT_IN

WEIGHT = 4
"""Number of times that the tokenizer reads the sentences; it reads the lexicon once."""
PHONEMES = 180
"""Upper limit of the phonemes' ids."""


@dataclass(frozen=True)
class Reading:
    text: str
    phonemes: np.ndarray
    """Phoneme of each latent of N patches (N, PATCH)."""
    read: np.ndarray | None
    """First character read during each patch, and the one after the last (N, 2); None if words and
    phonemes do not match."""


def joined(readings: Sequence[Reading]) -> Reading:
    """Sentences read one after another, with one space between their texts."""
    texts = [each.text for each in readings]
    begins = np.cumsum([0, *(len(text) + 1 for text in texts)])
    spans = [
        each.read + begin
        for each, begin in zip(readings, begins[:-1], strict=True)
        if each.read is not None
    ]
    read = np.concatenate(spans) if len(spans) == len(readings) else None
    return Reading(" ".join(texts), np.concatenate([each.phonemes for each in readings]), read)


def reading(
    text: str, phonemes: Sequence[int], durations: Sequence[int], timing: Timing
) -> Reading:
    """Labels of speech in regular timing, with the silence around it."""
    sounds = sounds_of(phonemes, durations)
    ends = timing.ends(sounds)
    labels = np.zeros(whole_patches(int(ends[-1])), np.int64)
    lengths = np.diff(ends, prepend=BEFORE)
    labels[BEFORE : ends[-1]] = np.repeat([each.phoneme for each in sounds], lengths)
    labels = labels.reshape(-1, PATCH)
    # Those of stress marks and spaces, which belong to the next sound, are the ends before them.
    all_ends = np.zeros(len(phonemes), np.int64)
    all_ends[[each.index for each in sounds]] = ends
    all_ends = np.maximum.accumulate(np.maximum(all_ends, BEFORE))
    return Reading(text, labels, _characters(text, phonemes, all_ends, len(labels)))


def _characters(
    text: str, phonemes: Sequence[int], ends: np.ndarray, patches: int
) -> np.ndarray | None:
    """Character spans (N, 2) of `Reading.read`, by the ends of the phonemes in latents."""
    times = _character_times(text, phonemes, ends)
    if times is None:
        return None
    begins = np.arange(patches) * PATCH
    first = np.searchsorted(times[:, 1], begins, side="right")
    first = np.minimum(first, len(text) - 1)
    behind = np.searchsorted(times[:, 0], begins + PATCH, side="left")
    return np.stack([first, np.maximum(behind, first + 1)], axis=1)


def words_of_phonemes(phonemes: Sequence[int]) -> list[list[int]]:
    """Places of each word's phonemes, stress marks included."""
    words: list[list[int]] = [[]]
    for index, phoneme in enumerate(phonemes):
        if phoneme == SPACE:
            words.append([])
        elif phoneme != SILENCE and phoneme not in PUNCTUATION:
            words[-1].append(index)
    return list(filter(None, words))


def _character_times(text: str, phonemes: Sequence[int], ends: np.ndarray) -> np.ndarray | None:
    """Begin and end of each character (characters, 2); a word's letters share its time evenly."""
    words, spoken = text.split(" "), words_of_phonemes(phonemes)
    if len(spoken) != len(words):
        return None
    times: list[tuple[float, float]] = []
    for word, group in zip(words, spoken, strict=True):
        begin, end = ends[group[0] - 1], ends[group[-1]]
        if times:
            times.append((times[-1][1], begin))
        letters = len(word.rstrip(".,?!;:\"'")) or 1
        edges = np.linspace(begin, end, letters + 1)
        times += list(pairwise(edges))
        times += [(end, end + 1)] * (len(word) - letters)
    return np.array(times)


def lexicon(forbidden: set[str]) -> list[str]:
    """Words of the teacher's lexicon and of WordNet, in lower case."""
    from hibari.tts import ASSETS

    found = set(wordnet_words())
    for name in ("gold", "silver"):
        with gzip.open(Path(ASSETS) / f"lexicon_us_{name}.json.gz") as file:
            found.update(
                word.lower()
                for word in json.load(file)
                if re.fullmatch("[A-Za-z][a-z]{1,13}", word)
            )
    return sorted(word for word in found - forbidden if re.search("[aeiouy]", word))


def word_sequences(words: list[str], seed: int = 11) -> list[str]:
    """Sequences of two to six words, in which each word occurs once."""
    draw, found, place = random.Random(seed), [], 0
    words = draw.sample(words, len(words))
    while place < len(words):
        count = draw.randint(2, 6)
        found.append(" ".join(words[place : place + count]).capitalize() + draw.choice("..,?"))
        place += count
    return found


def write_labels(folder: Path) -> None:
    known, unknown = held_out()
    sentences = training_sentences()
    seen = {word for text in sentences for word in words_of(text)}
    forbidden = {word for text in unknown for word in words_of(text)} - seen
    words = lexicon(forbidden)
    (folder / "labels").mkdir(parents=True, exist_ok=True)
    if not (folder / "tokenizer.json").exists():
        if (made := BUILT_IN["english"] / "tokenizer.json").exists():  # that of its weights
            shutil.copy(made, folder)
        else:
            write_tokenizer(folder, learn_pairs([*sentences * WEIGHT, *words]))
    texts = {
        "held": [*known, *unknown],
        "sentences": sentences,
        "words": word_sequences(words),
    }
    with teachers() as processes:
        for name, wanted in texts.items():
            path = folder / "labels" / f"{name}.json"
            if path.exists():
                continue
            rows = list(filter(None, processes.map(_label, wanted, chunksize=200)))
            part = path.with_suffix(".part")
            part.write_text(json.dumps(rows), encoding="utf-8")
            part.rename(path)


def _label(text: str) -> tuple[str, list[int], list[int]] | None:
    """Text, phonemes and durations; None if the text is not a single sentence."""
    teacher = own_teacher()
    ids = teacher.phonemes(text)
    return (text, ids, teacher.durations(ids)) if ids else None


def phonemes_of(phonemes: np.ndarray) -> list[int]:
    """Phonemes without silence, marks and repetitions."""
    flat = phonemes.ravel().tolist()
    runs = [each for index, each in enumerate(flat) if index == 0 or flat[index - 1] != each]
    return [each for each in runs if each not in {SILENCE, SPACE} | PUNCTUATION | STRESS]


def read_labels(folder: Path, name: str) -> list[Reading]:
    rows = json.loads((folder / "labels" / f"{name}.json").read_text(encoding="utf-8"))
    timing = timing_of(folder)
    return [reading(*row, timing) for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    write_labels(parser.parse_args().folder)


if __name__ == "__main__":
    main()
