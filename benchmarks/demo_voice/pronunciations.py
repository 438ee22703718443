"""Phonemes of the tokenizer's words, parts of words and letters, as they are said within words.

The teacher says a part of a word as a word of its own, "ally" as in "an ally". So each word's
letters are aligned with its phonemes, and a token has those that its letters have in most words.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate, islice, pairwise
from pathlib import Path

import numpy as np
from labels import WEIGHT, phonemes_of, words_of_phonemes
from spelling import Speller, is_spellable

ROUNDS, LEARNT_FROM = 5, 20_000
"""Passes in which the letters' phonemes are learnt, and the most words in each."""
MOST = 2
"""Most phonemes of a letter."""
_UNSEEN = 9.0
"""Cost of phonemes that a letter has never had, for each of them, and once more."""
Phonemes = tuple[int, ...]


def pronunciations(folder: Path, speller: Speller) -> dict[int, list[int]]:
    """Phonemes of each token that has letters, without stress; from the labels of FOLDER."""
    words, spellings = _words(folder)
    found: dict[int, Counter[Phonemes]] = defaultdict(Counter)
    for word, parts in align(words).items():
        for spelt, count in spellings[word].items():
            ids, places = speller(spelt)
            for token, (begin, end) in zip(ids, places, strict=True):
                found[token][sum(parts[begin:end], ())] += count
    return {token: list(each.most_common(1)[0][0]) for token, each in found.items()}


def _words(folder: Path) -> tuple[dict[str, Phonemes], dict[str, Counter[str]]]:
    """Phonemes of each word in lower case, and how often each of its spellings is used."""
    said: dict[str, Counter[Phonemes]] = defaultdict(Counter)
    spellings: dict[str, Counter[str]] = defaultdict(Counter)
    for name, weight in (("sentences", WEIGHT), ("words", 1)):
        rows = json.loads((folder / "labels" / f"{name}.json").read_text(encoding="utf-8"))
        for text, phonemes, _ in rows:
            words = [word.strip("\".,?!;:()'-") for word in text.split(" ")]
            numbers = np.array(phonemes)
            groups = [tuple(phonemes_of(numbers[word])) for word in words_of_phonemes(phonemes)]
            groups = list(filter(None, groups))
            if len(groups) != len(words):
                continue
            for word, group in zip(words, groups, strict=True):
                if not (word.isalpha() and is_spellable(word)):
                    continue
                said[word.lower()][group] += 1
                # Any word of the lexicon may begin a sentence.
                spelt = [word] if name == "sentences" else [word.lower(), word.capitalize()]
                spellings[word.lower()].update(dict.fromkeys(spelt, weight))
    return {word: each.most_common(1)[0][0] for word, each in said.items()}, spellings


def align(words: Mapping[str, Phonemes]) -> dict[str, list[Phonemes]]:
    """Phonemes of each letter of each word; words that can't be aligned are left out.

    A letter has at most MOST phonemes. Their costs are learnt from the alignments, at first from
    all phonemes near a letter's place in its word.
    """
    sample = dict(islice(words.items(), 0, None, -(-len(words) // LEARNT_FROM)))
    costs = _costs(pair for word, phonemes in sample.items() for pair in _near(word, phonemes))
    for _ in range(ROUNDS):
        costs = _costs(
            pair
            for word, phonemes in sample.items()
            for pair in zip(word, _cheapest(word, phonemes, costs) or (), strict=False)
        )
    aligned = ((word, _cheapest(word, phonemes, costs)) for word, phonemes in words.items())
    return {word: parts for word, parts in aligned if parts is not None}


def _near(word: str, phonemes: Phonemes) -> Iterator[tuple[str, Phonemes]]:
    """Each letter with all phonemes that it may have by its place."""
    for index, letter in enumerate(word):
        middle = index * len(phonemes) // len(word)
        for begin in range(max(0, middle - 1), min(len(phonemes), middle + 1) + 1):
            for size in range(MOST + 1):
                yield letter, phonemes[begin : begin + size]


def _costs(pairs: Iterable[tuple[str, Phonemes]]) -> dict[tuple[str, Phonemes], float]:
    """Negative logarithms of the probabilities of a letter's phonemes."""
    counts = Counter(pairs)
    totals: Counter[str] = Counter()
    for (letter, _), count in counts.items():
        totals[letter] += count
    return {pair: -math.log(count / totals[pair[0]]) for pair, count in counts.items()}


def _cheapest(
    word: str, phonemes: Phonemes, costs: Mapping[tuple[str, Phonemes], float]
) -> list[Phonemes] | None:
    """Alignment of the lowest cost, by dynamic programming; None if there are too many phonemes."""
    count = len(phonemes)
    if count > MOST * len(word):
        return None
    best = [0.0, *[math.inf] * count]
    steps = []
    for letter in word:
        row, taken = [math.inf] * (count + 1), [0] * (count + 1)
        for end in range(count + 1):
            for size in range(min(MOST, end) + 1):
                before = best[end - size]
                if before >= row[end]:
                    continue
                part = phonemes[end - size : end]
                cost = before + costs.get((letter, part), _UNSEEN * (1 + size))
                if cost < row[end]:
                    row[end], taken[end] = cost, size
        best = row
        steps.append(taken)
    end, sizes = count, []
    for taken in reversed(steps):
        sizes.append(taken[end])
        end -= sizes[-1]
    edges = [0, *accumulate(reversed(sizes))]
    return [phonemes[begin:end] for begin, end in pairwise(edges)]
