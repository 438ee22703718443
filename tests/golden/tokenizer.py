"""A small tokenizer of the released one's kind: BPE that falls back to bytes, no pre-tokenizer.

It has Chinese tokens of several characters, alone and behind "▁", which upstream splits.
"""

import json
from pathlib import Path

SPECIAL = {
    0: "<unk>",
    1: "<s>",
    2: "</s>",
    101: "<|audio_start|>",
    102: "<|audio_end|>",
    103: "<|audio_prompt_start|>",
    104: "<|audio_prompt_end|>",
}
CHARACTERS = "▁abcdefghijklmnopqrstuvwxyzHTW0123456789.,)，（你好世界小雨来了今天气很公园温柔的声音"
MERGES = [
    "， 世",
    "你 好",
    "世 界",
    "小 雨",
    "天 气",
    "公 园",
    "今 天",
    "来 了",
    "t h",
    "th e",
    "▁ the",
    "l l",
    "e ll",
    "▁ 你好",
    "今天 天气",
    "声 音",
    "ell o",
    "很 好",
    "▁ a",
]
# Of two characters that are not tokens themselves: splitting it must give <unk>, not bytes.
ADDED = "凤凰"
_TEMPLATE = (("SpecialToken", "<s>"), ("Sequence", "A"))


def _vocabulary() -> dict[str, int]:
    tokens = [f"<0x{byte:02X}>" for byte in range(256)] + list(CHARACTERS)
    tokens += [merge.replace(" ", "") for merge in MERGES]
    free = (i for i in range(len(tokens) + len(SPECIAL)) if i not in SPECIAL)
    return {token: i for i, token in SPECIAL.items()} | dict(zip(tokens, free, strict=True))


def write_tokenizer(folder: Path) -> None:
    """tokenizer.json and tokenizer_config.json: BPE with bytes for characters it lacks."""
    vocabulary = _vocabulary()
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [{"id": i, "content": t, **flags, "special": True} for i, t in SPECIAL.items()]
    added.append({"id": len(vocabulary), "content": ADDED, **flags, "special": False})
    space = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    start, text = ({kind: {"id": i, "type_id": 0}} for kind, i in _TEMPLATE)
    template = {"type": "TemplateProcessing", "single": [start, text], "pair": [start, text]}
    template["special_tokens"] = {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": "<unk>",
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": True,
        "ignore_merges": False,
        "vocab": vocabulary,
        "merges": MERGES,
    }
    description = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {
            "type": "Sequence",
            "normalizers": [{"type": "Prepend", "prepend": "▁"}, space],
        },
        "pre_tokenizer": None,
        "post_processor": template,
        "decoder": None,
        "model": model,
    }
    (folder / "tokenizer.json").write_text(json.dumps(description, ensure_ascii=False), "utf-8")
    settings = {
        "tokenizer_class": "LlamaTokenizerFast",
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "legacy": True,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 10**9,
        "added_tokens_decoder": {
            str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in added
        },
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, ensure_ascii=False), "utf-8")
