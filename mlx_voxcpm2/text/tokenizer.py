"""Text -> token ids by upstream's rule (model/utils.py, `mask_multichar_chinese_tokens`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..documents import read_object
from .byte_pairs import check_characters, read_tokenizer

if TYPE_CHECKING:
    from tokenizers import pre_tokenizers

AUDIO_START, AUDIO_END, REFERENCE_START, REFERENCE_END = 101, 102, 103, 104


def _is_han(text: str) -> bool:
    return all("\u4e00" <= character <= "\u9fff" for character in text)


class Tokenizer:
    """Tokenizer of a checkpoint: tokenizer.json, and tokenizer_config.json beside it if it exists.

    Raises FileNotFoundError without tokenizer.json, ValueError if it can't be read.
    """

    def __init__(self, path: Path):
        self._bpe = read_tokenizer(path, "a checkpoint needs its tokenizer.json")
        self._bpe.normalizer = None
        settings = read_object(path.with_name("tokenizer_config.json"))
        self._bpe.pre_tokenizer = self._spaces(settings)
        vocabulary = self._bpe.get_vocab(with_added_tokens=True)
        self._words = {token for token in vocabulary if len(token) > 1 and _is_han(token)}
        self._unknown = vocabulary.get("<unk>", 0)
        for id in (AUDIO_START, AUDIO_END, REFERENCE_START, REFERENCE_END):
            if self._bpe.id_to_token(id) is None:
                raise ValueError(f"{path}: no token {id}; take the tokenizer.json of VoxCPM2")

    @staticmethod
    def _spaces(settings: dict) -> pre_tokenizers.PreTokenizer:
        """Pre-tokenizer that writes spaces as "▁", with one before the text unless it has one.

        That is what `LlamaTokenizer` of transformers 5 does, which upstream runs on, whatever
        tokenizer.json says; transformers 4 puts a second one before a leading space.
        """
        from tokenizers import pre_tokenizers

        if settings.get("add_prefix_space") is False:
            scheme = "never"
        else:
            scheme = "always" if settings.get("legacy") else "first"
        return pre_tokenizers.Metaspace("▁", prepend_scheme=scheme, split=False)

    def __call__(self, text: str) -> list[int]:
        """Token ids; Chinese words are split into characters, as in the model's training.

        A split word loses its "▁", and a character that the vocabulary lacks becomes <unk>.
        """
        check_characters(text, "text")
        ids: list[int] = []
        encoding = self._bpe.encode(text, add_special_tokens=False)
        for token, id in zip(encoding.tokens, encoding.ids, strict=True):
            word = token.replace("▁", "")
            if word in self._words:
                ids += [self._id(character) for character in word]
            else:
                ids.append(id)
        return ids

    def _id(self, token: str) -> int:
        id = self._bpe.token_to_id(token)
        return self._unknown if id is None else id
