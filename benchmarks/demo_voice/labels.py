"""Phoneme labels by time, without audio, that teach a language model to read.

  python benchmarks/demo_voice/labels.py FOLDER

The teacher gives phonemes and durations of each text; from these come the phoneme of each latent
(40 ms), and the characters that are read during each patch (four latents). Writes FOLDER/labels/
held.json, sentences.json and words.json; the last has sequences of the teacher's lexicon's words,
for spellings that no sentence has, without the held-out words. Also FOLDER/tokenizer.json.
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
from speech_corpus import TRAINED
from spelling import learn_pairs, write_tokenizer
from teacher import UNIT, own_teacher, teachers

LATENT, PATCH = 1.6, 4
"""Length of a latent in the teacher's units, and latents per patch."""
AHEAD = 0.05
"""Seconds by which the teacher's audio precedes its durations."""
SILENCE, SPACE = 0, 16
PUNCTUATION = frozenset((1, 2, 3, 4, 5, 6, 9, 10, 11, 12, 13, 14, 15))
STRESS = frozenset((156, 157, 158))
WEIGHT = 4
"""Number of times that the tokenizer reads the sentences; it reads the lexicon once."""
STORED_TOKENIZER = TRAINED / "tokenizer.json"
PHONEMES = 180
"""Upper limit of the phonemes' ids."""
_LEAD, _TAIL = 2, 4
"""Most units of silence before and after a sentence."""
_PAUSE = 3
"""Units from which a space counts as a pause."""


@dataclass(frozen=True)
class Reading:
    text: str
    phonemes: np.ndarray
    """Phoneme of each latent of N patches (N, PATCH)."""
    read: np.ndarray | None
    """First character read during each patch, and the one after the last (N, 2); None if words and
    phonemes do not match."""


def reading(text: str, phonemes: Sequence[int], durations: Sequence[int]) -> Reading:
    """Labels by the teacher's durations, with little silence around the sentence."""
    units = np.array(durations, np.float64)
    units[0], units[-1] = min(units[0], _LEAD), min(units[-1], _TAIL)
    latents = int(np.ceil(units.sum() / LATENT))
    return _timed(text, phonemes, units, 0.0, latents + -latents % PATCH)


def reading_of_speech(
    text: str, phonemes: Sequence[int], durations: Sequence[int], begin: float, latents: int
) -> Reading:
    """Labels of speech of `latents` latents that begins `begin` seconds after the durations do.

    The last patch is padded with silence.
    """
    units = np.array(durations, np.float64)
    ahead = (begin + AHEAD) / UNIT
    return _timed(text, phonemes, units, ahead, latents + -latents % PATCH)


def _timed(
    text: str, phonemes: Sequence[int], units: np.ndarray, begin: float, latents: int
) -> Reading:
    """Labels of `latents` latents that begin `begin` units after the durations do."""
    ends = np.cumsum(units) - begin
    middles = (np.arange(latents) + 0.5) * LATENT
    place = np.searchsorted(ends, middles, side="right")
    named = np.append(_audible(phonemes, units), SILENCE)
    labels = named[np.minimum(place, len(phonemes))].reshape(-1, PATCH)
    return Reading(text, labels, _characters(text, phonemes, ends, len(labels)))


def _audible(phonemes: Sequence[int], units: np.ndarray) -> np.ndarray:
    """Phonemes in which stress marks and short spaces are replaced by the next phoneme."""
    named = np.array(phonemes)
    for index in range(len(named) - 2, -1, -1):
        is_short_space = named[index] == SPACE and units[index] < _PAUSE
        if named[index] in STRESS or is_short_space:
            named[index] = named[index + 1]
    return named


def _characters(
    text: str, phonemes: Sequence[int], ends: np.ndarray, patches: int
) -> np.ndarray | None:
    """Character spans (N, 2) of `Reading.read`."""
    times = _character_times(text, phonemes, ends)
    if times is None:
        return None
    begins = np.arange(patches) * PATCH * LATENT
    first = np.searchsorted(times[:, 1], begins, side="right")
    first = np.minimum(first, len(text) - 1)
    behind = np.searchsorted(times[:, 0], begins + PATCH * LATENT, side="left")
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
        times += [(end, end + 2)] * (len(word) - letters)
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
        if STORED_TOKENIZER.exists():  # that of the stored weights
            shutil.copy(STORED_TOKENIZER, folder)
        else:
            write_tokenizer(folder, learn_pairs([*sentences * WEIGHT, *words]))
    texts = {
        "held": [*known, *unknown],
        "sentences": sentences,
        "words": word_sequences(words),
    }
    with teachers(folder) as processes:
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
    return [reading(*row) for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    write_labels(parser.parse_args().folder)


if __name__ == "__main__":
    main()
