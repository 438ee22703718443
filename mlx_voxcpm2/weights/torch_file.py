"""Read the tensors of a PyTorch file (`.pth`, `.bin`, `.ckpt`) without PyTorch.

torch.save writes a zip archive: `<root>/data.pkl` is a pickle that describes the tensors, and
`<root>/data/<key>` are their storages, plain bytes that several tensors can share. A pickle may
ask for any function there is. This one gets stand-ins for the few names that tensors need and a
refusal for every other, so nothing that the file brings along is ever run.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import struct
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

import mlx.core as mx
import numpy as np

# name in the pickle -> numpy type of the bytes
_STORAGES = {
    "torch.FloatStorage": "<f4", "torch.BFloat16Storage": "<u2", "torch.HalfStorage": "<f2",
    "torch.DoubleStorage": "<f8", "torch.LongStorage": "<i8", "torch.IntStorage": "<i4",
    "torch.ShortStorage": "<i2", "torch.CharStorage": "i1", "torch.ByteStorage": "u1",
    "torch.BoolStorage": "u1",
}  # fmt: skip
_ORDERED_DICT = "collections.OrderedDict"
_TENSOR = "torch._utils._rebuild_tensor_v2"
_PARAMETER = "torch._utils._rebuild_parameter"
_NAMES = {_ORDERED_DICT, _TENSOR, _PARAMETER, *_STORAGES}
_OPCODES = set(
    "PROTO FRAME MARK STOP NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE "
    "SHORT_BINUNICODE EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT "
    "SETITEM SETITEMS BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET GLOBAL STACK_GLOBAL BINPERSID "
    "REDUCE BUILD".split()
)
_ZIP_MAGIC = b"PK\3\4"
_MAX_PICKLE_BYTES = 64 * 2**20
_MAX_TUPLES = 50_000  # 4 or 5 for each tensor; hashing some 200,000 nested ones ends the process
_MAX_ELEMENTS_PER_BYTE = 4  # views may repeat elements, but a small file must not fill the memory
_REMEDY = "download the file again from a source you trust, or convert it to safetensors"


class _Refusal(Exception):
    """What is wrong with the file, as the rest of a sentence about it, and what to do."""

    def __init__(self, what: str, remedy: str = _REMEDY) -> None:
        super().__init__(f"{what}: {remedy}")


class _Storage(NamedTuple):
    name: str
    key: str
    elements: int


class _Layout(NamedTuple):
    """A tensor as a view of its storage, counted in elements."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _PlainDict(dict):
    """Stands in for an OrderedDict; of its attributes `_metadata` is dropped, others refused."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict) or state.keys() != {"_metadata"}:
            raise _Refusal("sets attributes of an OrderedDict")


class _StandIn(NamedTuple):
    """Stands in for one of the names. A tuple, as the others: no pickle can change one."""

    name: str

    def __call__(self, *arguments: object) -> _PlainDict | _Layout:
        match arguments:
            case () if self.name == _ORDERED_DICT:
                return _PlainDict()
            case (_Storage(), int(), tuple(), tuple(), bool(), dict()) if self.name == _TENSOR:
                return _Layout(*arguments[:4])
            case (_Layout() as layout, bool(), dict()) if self.name == _PARAMETER:
                return layout
        raise _Refusal(f"calls {self.name} with arguments that make no plain tensor")


class _LayoutUnpickler(pickle.Unpickler):
    """Builds numbers, text, plain containers and layouts, and nothing else."""

    def find_class(self, module: str, name: str) -> _StandIn:
        asked = f"{module}.{name}"
        if asked not in _NAMES:
            raise _Refusal(f"asks for {_quote(asked)}, which no tensor needs")
        return _StandIn(asked)

    def persistent_load(self, pid: object) -> _Storage:
        match pid:
            case ("storage", _StandIn(name=name), str(key), str(), int(n)) if name in _STORAGES:
                return _Storage(name, key, n)
        raise _Refusal("refers to something that is no storage")


class _Archive:
    """The entries of an open file in torch.save's zip format, by their names below the root."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        head = file.read(4)
        if head != _ZIP_MAGIC:
            what = "is not a PyTorch file of the zip format (torch.save since 1.6)"
            raise _Refusal(what if head else "is empty")
        try:
            entries = zipfile.ZipFile(file).infolist()
        except Exception as error:  # a damaged directory makes zipfile raise almost anything
            raise _Refusal("is cut short or damaged (its zip directory)") from error
        roots = [e.filename[:-8] for e in entries if e.filename.endswith("/data.pkl")]
        if len(roots) != 1:
            raise _Refusal("is a zip archive but not a PyTorch file (no data.pkl)")
        self.entries = {e.filename.removeprefix(roots[0]): e for e in entries}
        self.size = file.seek(0, io.SEEK_END)
        self.verified: set[str] = set()
        if "byteorder" in self.entries and self.read("byteorder").tobytes() != b"little":
            raise _Refusal("is not little-endian", "convert it to safetensors where it was made")

    def read(self, name: str) -> np.ndarray:
        """The bytes (L,) of an entry, mapped: they take memory only while they are in use."""
        entry = self.entries.get(name)
        if entry is None:
            raise _Refusal(f"lacks the entry {_quote(name)}")
        if entry.compress_type != zipfile.ZIP_STORED:
            raise _Refusal(f"has a compressed entry {_quote(name)}")
        damaged = _Refusal(f"is cut short or damaged (at {_quote(name)})")
        # The directory knows where the local header of the entry is, not how long it is.
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


def _quote(text: str) -> str:
    """Text from the file, fit for a message: ASCII, one line, at most 100 characters."""
    return ascii(text)[:100]


def _read_pickle(archive: _Archive) -> object:
    """What data.pkl describes: numbers, text, plain containers and layouts."""
    data = archive.read("data.pkl").tobytes()
    if len(data) > _MAX_PICKLE_BYTES:
        raise _Refusal(f"has a data.pkl of {len(data) / 1e6:.0f} MB, far too large")
    tuples = 0
    try:
        for opcode, argument, position in pickletools.genops(data):
            if opcode.name not in _OPCODES:
                asked = f"{opcode.name} {argument if isinstance(argument, str) else ''}".rstrip()
                raise _Refusal(f"asks for {_quote(asked)}, which no tensor needs")
            tuples += opcode.name.startswith("TUPLE")
            if tuples > _MAX_TUPLES:
                raise _Refusal(f"describes more than {_MAX_TUPLES // 5} tensors")
            # The memo is an array as long as its highest index, which no honest pickle skips to.
            if opcode.name == "LONG_BINPUT" and argument > position:
                raise _Refusal("is damaged (data.pkl, memo)")
        return _LayoutUnpickler(io.BytesIO(data)).load()
    except _Refusal:
        raise
    except Exception as error:  # a damaged pickle makes the unpickler raise almost anything
        raise _Refusal("is damaged (data.pkl)") from error


def _fits(layout: _Layout) -> bool:
    """Whether a tensor lies inside its storage and has a shape that numpy and MLX can count."""
    storage, offset, size, stride = layout
    numbers = (storage.elements, offset, *size, *stride)
    if not all(type(number) is int and 0 <= number < 2**63 for number in numbers):
        return False
    if not len(stride) == len(size) <= 32 or max(size, default=0) >= 2**31:
        return False
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    return last < storage.elements if math.prod(size) else math.prod(n or 1 for n in size) < 2**59


def _select_layouts(content: object) -> dict[str, _Layout]:
    """The named tensors, which are the top level of the pickle or its "state_dict"."""
    remedy = "save only model.state_dict(), or convert it to safetensors"
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content:
        raise _Refusal("holds no dict of tensors", remedy)
    for name, value in content.items():
        if not isinstance(name, str):
            raise _Refusal(f"names a tensor by a {type(name).__name__}, not by text", remedy)
        if not isinstance(value, _Layout):
            raise _Refusal(f"holds {_quote(name)}, which is not a tensor", remedy)
        if not _fits(value):
            raise _Refusal(f"has a tensor {_quote(name)} that does not fit into its storage")
    return content


def _read_tensor(name: str, layout: _Layout, archive: _Archive) -> mx.array:
    """A row-contiguous copy of a tensor whose layout was checked."""
    storage, offset, size, stride = layout
    stored = np.dtype(_STORAGES[storage.name])
    content = archive.read(f"data/{storage.key}")
    if content.size != storage.elements * stored.itemsize:
        raise _Refusal(f"has a storage of the wrong size for {_quote(name)}")
    if math.prod(size) == 0:
        view = np.empty(size, stored)
    else:
        # Along an axis of one, torch's stride means nothing and can be any number.
        used = [step if n > 1 else 0 for n, step in zip(size, stride, strict=True)]
        steps = [step * stored.itemsize for step in used]
        view = np.ndarray(size, stored, content, offset * stored.itemsize, steps)
    if storage.name == "torch.BoolStorage":
        view = view != 0
    if storage.name == "torch.DoubleStorage":
        with np.errstate(over="ignore"):
            narrow = view.astype(np.float32)
        if np.any(np.isinf(narrow) & np.isfinite(view)):
            raise _Refusal(f"has numbers in {_quote(name)} too large for float32", "rescale them")
        view = narrow
    array = mx.array(np.require(view, requirements=["C", "ALIGNED"]))
    return array.view(mx.bfloat16) if storage.name == "torch.BFloat16Storage" else array


def load_torch_file(path: str | Path) -> dict[str, mx.array]:
    """A file that torch.save wrote -> {name: array}. Needs no PyTorch and runs no code from it.

    The file holds a dict of tensors, or a dict whose "state_dict" is one; what lies beside that
    is ignored. Every array is a row-contiguous copy in the type of its tensor, except that
    float64 is rounded to float32, since MLX has no float64 on the GPU; numbers too large for it
    are an error. At its peak the memory holds little more than the arrays.

    Raises FileNotFoundError if there is no such file, and ValueError with one line if it is not
    in the zip format of torch >= 1.6, little-endian, whole, and only of tensors.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: check the path, or download the file")
    if not path.is_file():
        raise ValueError(f"{path} is not a file: give the path of the .pth file itself")
    try:
        with path.open("rb") as file:
            archive = _Archive(file)
            layouts = _select_layouts(_read_pickle(archive))
            elements = sum(math.prod(layout.size) for layout in layouts.values())
            if elements > _MAX_ELEMENTS_PER_BYTE * archive.size:
                raise _Refusal("holds far more elements than bytes, in views that overlap")
            return {name: _read_tensor(name, layouts[name], archive) for name in layouts}
    except _Refusal as refusal:
        raise ValueError(f"{path} {refusal}") from refusal.__cause__
