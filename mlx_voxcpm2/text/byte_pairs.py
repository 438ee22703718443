"""Byte-pair encoding with the library `tokenizers`: of a file of it, or by ranks as tiktoken's."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import one_line

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def read_tokenizer(path: Path, advice: str) -> Tokenizer:
    """Tokenizer of a tokenizer.json. advice: what to do without the file.

    Raises FileNotFoundError or ValueError.
    """
    from tokenizers import Tokenizer

    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; {advice}")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise ValueError(f"{path}: not a tokenizer ({error}); download the file again") from None
    tokenizer.no_padding()  # to a billion tokens, if a stranger's file says so
    tokenizer.no_truncation()
    return tokenizer


def check_characters(text: str, name: str) -> None:
    """Raise ValueError for half a character, which no tokenizer takes. name: for the message."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError(f"{name} holds half a character (a lone surrogate); save it as UTF-8")


def byte_characters() -> list[str]:
    """The visible character by which GPT-2 writes each byte, and so `tokenizers`."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = (byte for byte in range(256) if byte not in set(shown))
    codes = {byte: byte for byte in shown} | {byte: 256 + i for i, byte in enumerate(others)}
    return [chr(codes[byte]) for byte in range(256)]


def build_tokenizer(tokens: list[bytes], pattern: str) -> Tokenizer:
    """Tokenizer whose ids are the ranks. tokens: by rank; pattern: splits a text into words.

    Raises ValueError if the tokens are not distinct, or the pattern is none.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    ranks = {token: rank for rank, token in enumerate(tokens)}
    if len(ranks) < len(tokens):
        raise ValueError("two tokens have the same bytes")
    characters = byte_characters()
    names = ["".join(characters[byte] for byte in token) for token in tokens]
    merges = [(names[ranks[first]], names[ranks[second]]) for first, second in _merges(ranks)]
    vocabulary = {name: rank for rank, name in enumerate(names)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=True))
    try:
        split = pre_tokenizers.Split(Regex(pattern), "isolated")
    except Exception as error:  # the library raises bare Exception
        raise ValueError(f"its pattern: {one_line(error)}") from None
    as_characters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, as_characters])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _merges(ranks: dict[bytes, int]) -> Iterator[tuple[bytes, bytes]]:
    """The pair that each token is merged from, in the order of the tokens' ranks.

    A token that no pair leads to has none: it is found as a whole word only.
    """
    for token, rank in ranks.items():
        cuts = [cut for cut in range(1, len(token)) if _is_pair(token, cut, rank, ranks)]
        if len(cuts) > 1:  # which of them merging arrives at
            parts = _merged(token, rank, ranks)
            cuts = [len(parts[0])] if len(parts) == 2 else []
        if cuts:
            yield token[: cuts[0]], token[cuts[0] :]


def _is_pair(token: bytes, cut: int, rank: int, ranks: dict[bytes, int]) -> bool:
    return ranks.get(token[:cut], rank) < rank and ranks.get(token[cut:], rank) < rank


def _merged(token: bytes, limit: int, ranks: dict[bytes, int]) -> list[bytes]:
    """Parts of the token after all merges whose rank is below the limit."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        pairs = [ranks.get(a + b, limit) for a, b in pairwise(parts)]
        best = min(pairs)
        if best >= limit:
            break
        index = pairs.index(best)
        parts[index : index + 2] = [parts[index] + parts[index + 1]]
    return parts
