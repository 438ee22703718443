"""Writes tensors one after another, so that a file takes no more memory than its largest one.

`mx.save_safetensors` computes all tensors of a file before it writes the first. The format is
simple: the length of a header (8 bytes), the header as JSON, the tensors' bytes.
https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import mlx.core as mx

_TYPES = {
    mx.bfloat16: "BF16", mx.float16: "F16", mx.float32: "F32", mx.bool_: "BOOL",
    mx.int8: "I8", mx.int16: "I16", mx.int32: "I32", mx.int64: "I64",
    mx.uint8: "U8", mx.uint16: "U16", mx.uint32: "U32", mx.uint64: "U64",
}  # fmt: skip


def header(tensors: dict[str, mx.array]) -> bytes:
    """What a file begins with. The tensors need not be computed."""
    entries: dict = {"__metadata__": {"format": "mlx"}}
    end = 0
    for name, value in tensors.items():
        start, end = end, end + value.nbytes
        entries[name] = {
            "dtype": _TYPES[value.dtype], "shape": list(value.shape), "data_offsets": [start, end]
        }  # fmt: skip
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of 8
    return struct.pack("<Q", len(text)) + text


def content(value: mx.array) -> memoryview:
    """The bytes of a tensor, row by row. Computes it."""
    return memoryview(mx.contiguous(value.reshape(-1)).view(mx.uint8))


def write_file(path: Path, head: bytes, tensors: Iterable[mx.array]) -> Iterator[int]:
    """Yields the bytes of each tensor once they are written; at the end they are on the disk."""
    with path.open("wb") as file:
        file.write(head)
        for value in tensors:
            data = content(value)
            del value
            file.write(data)
            yield data.nbytes
        file.flush()
        os.fsync(file.fileno())
