"""Write a safetensors file tensor by tensor, with memory for its largest tensor only.

`mx.save_safetensors` evaluates all tensors of a file before it writes the first. The format is the
length of a header (8 bytes), the header as JSON, the tensors' bytes:
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
    mx.bfloat16: "BF16",
    mx.float16: "F16",
    mx.float32: "F32",
    mx.bool_: "BOOL",
    mx.int8: "I8",
    mx.int16: "I16",
    mx.int32: "I32",
    mx.int64: "I64",
    mx.uint8: "U8",
    mx.uint16: "U16",
    mx.uint32: "U32",
    mx.uint64: "U64",
}


def header(tensors: dict[str, mx.array]) -> bytes:
    """First bytes of a file. Evaluates nothing."""
    entries: dict = {"__metadata__": {"format": "mlx"}}
    end = 0
    for name, value in tensors.items():
        start, end = end, end + value.nbytes
        dtype, shape = _TYPES[value.dtype], list(value.shape)
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of 8
    return struct.pack("<Q", len(text)) + text


def content(value: mx.array) -> memoryview:
    """Bytes of a tensor in row-major order. Evaluates it."""
    return memoryview(mx.contiguous(value.reshape(-1)).view(mx.uint8))


def write_file(path: Path, start: bytes, tensors: Iterable[mx.array]) -> Iterator[int]:
    """Writes a file, and yields the number of bytes of each tensor once it is written.

    start: from `header`. At the end the file is synced to the disk.
    """
    with path.open("wb") as file:
        file.write(start)
        for value in tensors:
            data = content(value)
            del value
            file.write(data)
            yield data.nbytes
        file.flush()
        os.fsync(file.fileno())
