"""Descriptions of tensors in the pickle of a PyTorch file, read without running its code.

A pickle may ask for any function. This one gets stand-ins for the few names that tensors need, and
is refused for any other, so no code from the file is ever run.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from typing import ClassVar, NamedTuple

STORAGES = {
    "torch.FloatStorage": "<f4",
    "torch.BFloat16Storage": "<u2",
    "torch.HalfStorage": "<f2",
    "torch.DoubleStorage": "<f8",
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
    "torch.ShortStorage": "<i2",
    "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1",
    "torch.BoolStorage": "u1",
}
"""Numpy type of a storage's bytes, by its name in the pickle."""
_ORDERED_DICT = "collections.OrderedDict"
_TENSOR = "torch._utils._rebuild_tensor_v2"
_PARAMETER = "torch._utils._rebuild_parameter"
_NAMES = {_ORDERED_DICT, _TENSOR, _PARAMETER, *STORAGES}
_OPCODES = set(
    "PROTO FRAME MARK STOP NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE "
    "SHORT_BINUNICODE EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT "
    "SETITEM SETITEMS BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET GLOBAL STACK_GLOBAL BINPERSID "
    "REDUCE BUILD".split()
)
MAX_PICKLE_BYTES = 16 * 2**20
MAX_OPERATIONS = 400_000  # some 40 for each tensor
_REMEDY = "download the file again from a source you trust, or convert it to safetensors"


class Refusal(Exception):
    """Reason why a file is refused, as the predicate of a sentence about it, and what to do."""

    def __init__(self, what: str, remedy: str = _REMEDY) -> None:
        super().__init__(f"{what}: {remedy}")


class Storage(NamedTuple):
    """Bytes that several tensors can share."""

    name: str
    key: str
    elements: int


class Layout(NamedTuple):
    """A tensor as a view of its storage; offset and strides are in elements."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _PlainDict(dict):
    """Stand-in for an OrderedDict; its attribute `_metadata` is dropped, others are refused."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict) or state.keys() != {"_metadata"}:
            raise Refusal("sets attributes of an OrderedDict")


class _StandIn(NamedTuple):
    """Stand-in for one of the names. A tuple like the others, so that no pickle can change it."""

    name: str

    def __call__(self, *arguments: object) -> _PlainDict | Layout:
        match arguments:
            case () if self.name == _ORDERED_DICT:
                return _PlainDict()
            case (Storage(), int(), tuple(), tuple(), bool(), dict()) if self.name == _TENSOR:
                return Layout(*arguments[:4])
            case (Layout() as layout, bool(), dict()) if self.name == _PARAMETER:
                return layout
        raise Refusal(f"calls {self.name} with arguments that make no plain tensor")


class _LayoutUnpickler(pickle._Unpickler):
    """Unpickler of numbers, text, plain containers and layouts only.

    Written in Python, so that keys can be checked before they are hashed: the hash of tuples in
    tuples, each twice in the next, takes twice as long with each.
    """

    dispatch: ClassVar[dict] = dict(pickle._Unpickler.dispatch)

    def load_setitem(self) -> None:
        _check_keys(self.stack[-2:-1])
        super().load_setitem()

    def load_setitems(self) -> None:
        _check_keys(self.stack[0::2])  # those since the mark
        super().load_setitems()

    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems

    def find_class(self, module: str, name: str) -> _StandIn:
        asked = f"{module}.{name}"
        if asked not in _NAMES:
            raise Refusal(f"asks for {quote(asked)}, which no tensor needs")
        return _StandIn(asked)

    def persistent_load(self, pid: object) -> Storage:
        match pid:
            case ("storage", _StandIn(name=name), str(key), str(), int(n)) if name in STORAGES:
                return Storage(name, key, n)
        raise Refusal("refers to something that is no storage")


def _check_keys(keys: list[object]) -> None:
    """Refuse keys that are not text; a state of an optimizer has numbers, too."""
    if any(type(key) not in (str, int, type(None)) for key in keys):
        raise Refusal("has a dict with keys that are not text")


def quote(text: str) -> str:
    """Text from the file for a message: ASCII, one line, at most 100 characters."""
    return ascii(text)[:100]


def read_layouts(data: bytes) -> dict[str, Layout]:
    """Named tensors of data.pkl, each as a view that lies inside its storage. Raises Refusal."""
    return _select(_unpickle(data))


def _unpickle(data: bytes) -> object:
    """Content of data.pkl: numbers, text, plain containers and layouts."""
    if len(data) > MAX_PICKLE_BYTES:
        raise Refusal(f"has a data.pkl of {len(data) / 1e6:.0f} MB, far too large")
    try:
        for number, (opcode, argument, position) in enumerate(pickletools.genops(data)):
            if opcode.name not in _OPCODES:
                asked = f"{opcode.name} {argument if isinstance(argument, str) else ''}".rstrip()
                raise Refusal(f"asks for {quote(asked)}, which no tensor needs")
            if number > MAX_OPERATIONS:
                raise Refusal(f"describes more than {MAX_OPERATIONS // 40} tensors")
            # The memo is an array as long as its highest index; a real pickle skips no index.
            if opcode.name == "LONG_BINPUT" and argument > position:
                raise Refusal("is damaged (data.pkl, memo)")
        return _LayoutUnpickler(io.BytesIO(data)).load()
    except Refusal:
        raise
    except Exception as error:  # a damaged pickle makes the unpickler raise almost anything
        raise Refusal("is damaged (data.pkl)") from error


def _select(content: object) -> dict[str, Layout]:
    """Named tensors, at the top level of the content or in its "state_dict"."""
    remedy = "save only model.state_dict(), or convert it to safetensors"
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content:
        raise Refusal("holds no dict of tensors", remedy)
    for name, value in content.items():
        if not isinstance(name, str):
            raise Refusal(f"names a tensor by a {type(name).__name__}, not by text", remedy)
        if not isinstance(value, Layout):
            raise Refusal(f"holds {quote(name)}, which is not a tensor", remedy)
        if not _fits(value):
            raise Refusal(f"has a tensor {quote(name)} that does not fit into its storage")
    return content


def _fits(layout: Layout) -> bool:
    """Whether a tensor lies inside its storage and has a shape that numpy and MLX can count."""
    storage, offset, size, stride = layout
    numbers = (storage.elements, offset, *size, *stride)
    if not all(type(number) is int and 0 <= number < 2**63 for number in numbers):
        return False
    if not len(stride) == len(size) <= 32 or max(size, default=0) >= 2**31:
        return False
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    return last < storage.elements if math.prod(size) else math.prod(n or 1 for n in size) < 2**59
