"""A tokenizer of single characters, so that any word can be spelt."""

from __future__ import annotations

import json
from pathlib import Path

from untrained import SPECIAL, tokenizer_file

AUDIO_START, VOCABULARY = 101, 105
CHARACTERS = " abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,?!;:-'\"()"
IDS = {character: number for number, character in enumerate(CHARACTERS, 3)}


def is_spellable(text: str) -> bool:
    return all(character in IDS for character in text)


def spell(text: str) -> list[int]:
    return [IDS[character] for character in text]


def tokenizer() -> dict:
    """Contents of tokenizer.json: byte-pair encoding without pairs."""
    vocabulary = {name: id for id, name in SPECIAL.items()}
    vocabulary |= {character.replace(" ", "▁"): id for character, id in IDS.items()}
    return tokenizer_file(vocabulary, merges=[])


def write_tokenizer(folder: Path) -> None:
    text = json.dumps(tokenizer(), ensure_ascii=False, indent=1) + "\n"
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    settings = {"tokenizer_class": "LlamaTokenizerFast", "add_prefix_space": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings) + "\n")
