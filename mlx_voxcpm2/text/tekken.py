"""Tekken, mistral's tokenizer: text <-> token ids, from a checkpoint's tekken.json.

Source: mistral-common, tokens/tokenizers/tekken.py. Its byte pairs are those of tiktoken; here
`tokenizers` merges them. Rebuilding its merges takes seconds, so they are kept in a cache.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..activity import activity
from ..documents import content_key, read_json
from ..file_names import cache_folder
from ..files import atomic_write
from .byte_pairs import build_tokenizer, check_characters

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_CACHE_VERSION = 1
"""Increase it when `build_tokenizer` changes."""


class Tekken:
    """Tokenizer of a tekken.json. Ids below `specials` are control tokens, which text never has.

    Raises FileNotFoundError without the file, ValueError if it can't be read.
    """

    def __init__(self, file: Path, original: str = "mistralai/Voxtral-Mini-3B-2507"):
        if not file.is_file():
            raise FileNotFoundError(
                f"{file.parent}: no {file.name} here; take it from {original} on the hub"
            )
        data = read_json(file, "download it again")
        try:
            config = data["config"]
            self.specials = int(config["default_num_special_tokens"])
            count = int(config["default_vocab_size"]) - self.specials
            self._bytes = _token_bytes(data["vocab"], count)
            self._ids = {each["token_str"]: int(each["rank"]) for each in data["special_tokens"]}
            build = _builder(self._bytes, str(config["pattern"]))
            self._tokenizer = _cached(build, content_key(file))
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise ValueError(f"{file}: not a tekken.json ({error}); download it again") from None

    def __len__(self) -> int:
        """Number of ids."""
        return self.specials + len(self._bytes)

    def control(self, name: str) -> int:
        """Id of a control token, such as "[AUDIO]". Raises ValueError if there is none."""
        if name not in self._ids:
            raise ValueError(f"tekken.json has no token {name}; take the file of a Voxtral release")
        return self._ids[name]

    def encode(self, text: str) -> list[int]:
        """Ids of a text; what looks like a control token is text too."""
        check_characters(text, "text")
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        return [self.specials + rank for rank in ids]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids, without control tokens; bytes that are no UTF-8 are replaced."""
        return "".join(self.decode_stream(ids))

    def decode_stream(self, ids: Iterable[int]) -> Iterator[str]:
        """Pieces of `decode(ids)`, each as soon as its characters are complete."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for id in ids:
            if self.specials <= id < len(self):
                yield decoder.decode(self._bytes[id - self.specials])
        yield decoder.decode(b"", final=True)


def _token_bytes(vocabulary: list[dict], count: int) -> list[bytes]:
    """Bytes of the first `count` ranks."""
    if not 256 <= count <= len(vocabulary):
        raise ValueError(f"{len(vocabulary)} tokens instead of {count}")
    tokens: list[bytes] = []
    for rank, entry in enumerate(vocabulary[:count]):
        if entry["rank"] != rank:
            raise ValueError(f"rank {entry['rank']} instead of {rank}")
        tokens.append(base64.b64decode(entry["token_bytes"], validate=True))
    if not all(tokens) or sorted(tokens[:256]) != [bytes([byte]) for byte in range(256)]:
        raise ValueError("the first 256 ranks are not the bytes")
    return tokens


def _builder(tokens: list[bytes], pattern: str) -> Callable[[], Tokenizer]:
    def build() -> Tokenizer:
        with activity("preparing the tokenizer, once"):
            return build_tokenizer(tokens, pattern)

    return build


def _cached(build: Callable[[], Tokenizer], key: str) -> Tokenizer:
    """The tokenizer from the cache, or built and written into it, if that can be written."""
    from tokenizers import Tokenizer

    file = cache_folder() / "tokenizers" / f"{key}.{_CACHE_VERSION}.json"
    with contextlib.suppress(Exception):  # the library raises bare Exception
        return Tokenizer.from_file(str(file))
    tokenizer = build()
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(file, tokenizer.to_str().encode())
    return tokenizer
