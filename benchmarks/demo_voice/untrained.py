"""The demo voice before it has learnt anything: its tokenizer and random weights.

In the layout that upstream publishes, so that the official package can load it as well.
"""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_flatten
from sizes import config
from speech import CHINESE_DIGITS, DIGITS, SPEAKERS, WORDS

from mlx_voxcpm2.models.voxcpm2.config import VoxCPM2Config
from mlx_voxcpm2.models.voxcpm2.network import VoxCPM2Model

# The ids that VoxCPM2 gives them.
SPECIAL = {
    0: "<unk>",
    1: "<s>",
    2: "</s>",
    101: "<|audio_start|>",
    102: "<|audio_end|>",
    103: "<|audio_prompt_start|>",
    104: "<|audio_prompt_end|>",
}
LETTERS = "▁()abcdefghijklmnopqrstuvwxyz"


def tokenizer() -> dict:
    """Byte-pair encoding in which every word of the vocabulary ends as one token."""
    described = " ".join(speaker.description or "" for speaker in SPEAKERS.values()).split()
    words = sorted({*DIGITS, *WORDS, *described})
    # A word that another one's merges break into goes before it.
    while broken := [word for word in words if len(_split(word, _merges(words))) > 1]:
        words = broken + [word for word in words if word not in broken]
    merges = _merges(words)
    tokens = [*LETTERS, *CHINESE_DIGITS, *map("".join, merges)]
    vocabulary, free = {name: id for id, name in SPECIAL.items()}, iter(range(3, 10**6))
    for token in tokens:
        vocabulary[token] = next(id for id in free if id not in SPECIAL)
    return tokenizer_file(vocabulary, [" ".join(pair) for pair in merges])


def tokenizer_file(vocabulary: dict[str, int], merges: list[str]) -> dict:
    """Contents of tokenizer.json: byte-pair encoding with VoxCPM2's special tokens."""
    added = [
        {
            "id": id,
            "content": name,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for id, name in SPECIAL.items()
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": False,
            "vocab": vocabulary,
            "merges": merges,
        },
    }


def _merges(words: list[str]) -> list[tuple[str, str]]:
    """Each word is put together from its beginning, a letter at a time."""
    grown = [(word[:end], word[end]) for word in words for end in range(1, len(word))]
    return list(dict.fromkeys(grown))


def _split(word: str, merges: list[tuple[str, str]]) -> list[str]:
    """What byte-pair encoding makes of it."""
    parts, rank = list(word), {pair: number for number, pair in enumerate(merges)}
    while pairs := [pair for pair in pairwise(parts) if pair in rank]:
        place = list(pairwise(parts)).index(min(pairs, key=rank.get))
        parts[place : place + 2] = ["".join(parts[place : place + 2])]
    return parts


def write_untrained(folder: Path, vae: Path) -> None:
    """`vae` is what train_vae.py wrote."""
    folder.mkdir(parents=True, exist_ok=True)
    words = tokenizer()
    settings = config(max(words["model"]["vocab"].values()) + 1)
    (folder / "config.json").write_text(json.dumps(settings, indent=1) + "\n")
    (folder / "tokenizer.json").write_text(json.dumps(words, ensure_ascii=False, indent=1) + "\n")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizerFast"}\n')
    shutil.copy(vae, folder / "audiovae.pth")
    mx.random.seed(0)
    model = VoxCPM2Model(VoxCPM2Config.from_dict(settings))
    token = model.feat_encoder.special_token
    model.feat_encoder.special_token = mx.random.normal(token.shape)
    weights = dict(tree_flatten(model.parameters()))
    weights = {name: x for name, x in weights.items() if not name.startswith("audio_vae.")}
    mx.save_safetensors(str(folder / "model.safetensors"), weights)
