"""A tokenizer of byte pairs within words: a common word is one token, any other is spelt in parts.

Spaces, digits and marks are tokens of their own, so that a word has the same token everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from untrained import SPECIAL, tokenizer_file

FIRST_PAIR, VOCABULARY = 105, 16_000
CHARACTERS = " abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,?!;:-'\"()"
IDS = {character: number for number, character in enumerate(CHARACTERS, 3)}
DROPOUT = 0.1
"""Fraction of merges left out in varied spellings (Provilkov et al. 2019, arXiv 1910.13267)."""
Spelling = tuple[list[int], list[tuple[int, int]]]
"""Token ids, and the first character of each token and the one after its last."""


def is_spellable(text: str) -> bool:
    return all(character in IDS for character in text)


def learn_pairs(texts: Iterable[str], count: int = VOCABULARY - FIRST_PAIR) -> list[tuple]:
    """Learns up to `count` byte pairs from the words of texts."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Split(Regex("[^A-Za-z]"), "isolated")
    letters = [each for each in CHARACTERS if each.isalpha()]
    trainer = trainers.BpeTrainer(
        vocab_size=len(CHARACTERS) + count, initial_alphabet=letters, show_progress=False
    )
    bpe.train_from_iterator((each for each in texts if is_spellable(each)), trainer)
    return [tuple(pair) for pair in json.loads(bpe.to_str())["model"]["merges"]][:count]


def tokenizer(pairs: list[tuple]) -> dict:
    """Contents of tokenizer.json."""
    vocabulary = {name: id for id, name in SPECIAL.items()}
    vocabulary |= {character.replace(" ", "▁"): id for character, id in IDS.items()}
    for first, second in pairs:
        vocabulary.setdefault(
            first + second, len(vocabulary) - len(SPECIAL) - len(IDS) + FIRST_PAIR
        )
    return tokenizer_file(vocabulary, [" ".join(pair) for pair in pairs])


def write_tokenizer(folder: Path, pairs: list[tuple]) -> None:
    text = json.dumps(tokenizer(pairs), ensure_ascii=False, indent=0) + "\n"
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    write_settings(folder)


def write_settings(folder: Path) -> None:
    """Writes tokenizer_config.json: spaces only where the text has them."""
    settings = {"tokenizer_class": "LlamaTokenizerFast", "add_prefix_space": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings) + "\n")


class Speller:
    """The tokenizer of a folder."""

    def __init__(self, folder: Path):
        from tokenizers import Tokenizer

        path = str(folder / "tokenizer.json")
        self._exact, self._varied = Tokenizer.from_file(path), Tokenizer.from_file(path)
        self._varied.model.dropout = DROPOUT

    def __call__(self, text: str, varied: bool = False) -> Spelling:
        """Spells a text; with `varied`, some words in smaller parts than they need."""
        found = (self._varied if varied else self._exact).encode(text.replace(" ", "▁"))
        return found.ids, found.offsets
