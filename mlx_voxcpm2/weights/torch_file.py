"""Read the tensors of a PyTorch file (`.pth`, `.bin`, `.ckpt`) without PyTorch.

torch.save writes a zip archive: `<root>/data.pkl` is a pickle that describes the tensors, and
`<root>/data/<key>` are their storages, plain bytes that several tensors can share.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

import mlx.core as mx
import numpy as np

from .torch_pickle import STORAGES, Layout, Refusal, quote, read_layouts

_ZIP_MAGIC = b"PK\3\4"
_MAX_ELEMENTS_PER_BYTE = 4  # views may repeat elements, but a small file must not fill the memory


class _Archive:
    """Entries of an open file in torch.save's zip format, by their names below the root."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        head = file.read(4)
        if head != _ZIP_MAGIC:
            what = "is not a PyTorch file of the zip format (torch.save since 1.6)"
            raise Refusal(what if head else "is empty")
        try:
            entries = zipfile.ZipFile(file).infolist()
        except Exception as error:  # a damaged directory makes zipfile raise almost anything
            raise Refusal("is cut short or damaged (its zip directory)") from error
        roots = [e.filename[:-8] for e in entries if e.filename.endswith("/data.pkl")]
        if len(roots) != 1:
            raise Refusal("is a zip archive but not a PyTorch file (no data.pkl)")
        self.entries = {e.filename.removeprefix(roots[0]): e for e in entries}
        self.size = file.seek(0, io.SEEK_END)
        self.verified: set[str] = set()
        if "byteorder" in self.entries and self.read("byteorder").tobytes() != b"little":
            raise Refusal("is not little-endian", "convert it to safetensors where it was made")

    def read(self, name: str) -> np.ndarray:
        """Bytes (L,) of an entry, memory-mapped, so that they take no memory when unused."""
        entry = self.entries.get(name)
        if entry is None:
            raise Refusal(f"lacks the entry {quote(name)}")
        if entry.compress_type != zipfile.ZIP_STORED:
            raise Refusal(f"has a compressed entry {quote(name)}")
        damaged = Refusal(f"is cut short or damaged (at {quote(name)})")
        # The directory has the position of the entry's local header, not its length.
        header = self.file.seek(min(max(entry.header_offset, 0), self.size))
        magic, *lengths = struct.unpack("<4s22xHH", self.file.read(30).ljust(30))
        start = header + 30 + sum(lengths)
        if magic != _ZIP_MAGIC or start + entry.file_size > self.size:
            raise damaged
        if not entry.file_size:
            return np.empty(0, np.uint8)  # an empty range cannot be mapped
        content = np.memmap(self.file, np.uint8, "r", start, (entry.file_size,))
        if name not in self.verified and zlib.crc32(content) != entry.CRC:
            raise damaged
        self.verified.add(name)
        return content


def _read_tensor(name: str, layout: Layout, archive: _Archive) -> mx.array:
    """Row-contiguous copy of a tensor whose layout was checked."""
    storage, offset, size, stride = layout
    stored = np.dtype(STORAGES[storage.name])
    content = archive.read(f"data/{storage.key}")
    if content.size != storage.elements * stored.itemsize:
        raise Refusal(f"has a storage of the wrong size for {quote(name)}")
    if math.prod(size) == 0:
        view = np.empty(size, stored)
    else:
        # Along an axis of one, torch's stride can be any number.
        used = [step if n > 1 else 0 for n, step in zip(size, stride, strict=True)]
        steps = [step * stored.itemsize for step in used]
        view = np.ndarray(size, stored, content, offset * stored.itemsize, steps)
    if storage.name == "torch.BoolStorage":
        view = view != 0
    if storage.name == "torch.DoubleStorage":
        with np.errstate(over="ignore"):
            narrow = view.astype(np.float32)
        if np.any(np.isinf(narrow) & np.isfinite(view)):
            raise Refusal(f"has numbers in {quote(name)} too large for float32", "rescale them")
        view = narrow
    array = mx.array(np.require(view, requirements=["C", "ALIGNED"]))
    return array.view(mx.bfloat16) if storage.name == "torch.BFloat16Storage" else array


def load_torch_file(path: str | Path) -> dict[str, mx.array]:
    """Arrays by name, from a file of torch.save. Needs no PyTorch and runs no code of the file.

    The file holds a dict of tensors, or a dict whose "state_dict" is one; its other entries are
    ignored. Every array is a row-contiguous copy in the type of its tensor, except that float64
    is rounded to float32, since MLX has no float64 on the GPU; numbers too large for that are an
    error. Peak memory is little more than the arrays.

    Raises FileNotFoundError if there is no such file, and ValueError with one line if it is not
    in the zip format of torch >= 1.6, not little-endian, incomplete, or has more than tensors.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: check the path, or download the file")
    if not path.is_file():
        raise ValueError(f"{path} is not a file: give the path of the .pth file itself")
    try:
        with path.open("rb") as file:
            archive = _Archive(file)
            layouts = read_layouts(archive.read("data.pkl").tobytes())
            elements = sum(math.prod(layout.size) for layout in layouts.values())
            if elements > _MAX_ELEMENTS_PER_BYTE * archive.size:
                raise Refusal("holds far more elements than bytes, in views that overlap")
            return {name: _read_tensor(name, layouts[name], archive) for name in layouts}
    except Refusal as refusal:
        raise ValueError(f"{path} {refusal}") from refusal.__cause__
