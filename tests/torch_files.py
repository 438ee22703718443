"""Writes files as torch.save does, valid ones and damaged ones."""

import struct
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Global(NamedTuple):
    module: str
    name: str


class StackGlobal(NamedTuple):
    module: str
    name: str


class Call(NamedTuple):
    function: object
    arguments: tuple


class Build(NamedTuple):
    target: object
    state: object


class Reference(NamedTuple):
    pid: object


class Items(NamedTuple):
    """A call's result (an OrderedDict) filled with items."""

    target: object
    items: dict


def opcodes(value) -> bytes:
    """Pickle of a value, without the leading protocol and the final stop."""
    match value:
        case bytes():
            return value
        case None | True | False:
            return {None: b"N", True: b"\x88", False: b"\x89"}[value]
        case int():
            content = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            return b"\x8a" + bytes([len(content)]) + content
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case Global(module, name):
            return f"c{module}\n{name}\n".encode()
        case StackGlobal(module, name):
            return opcodes(module) + opcodes(name) + b"\x93"
        case Call(function, arguments):
            return opcodes(function) + opcodes(arguments) + b"R"
        case Build(target, state):
            return opcodes(target) + opcodes(state) + b"b"
        case Reference(pid):
            return opcodes(pid) + b"Q"
        case Items(target, items):
            content = b"".join(opcodes(key) + opcodes(items[key]) for key in items)
            return opcodes(target) + b"(" + content + b"u"
        case tuple():
            return b"(" + b"".join(map(opcodes, value)) + b"t"
        case list():
            return b"](" + b"".join(map(opcodes, value)) + b"e"
        case dict():
            return opcodes(Items(b"}", value))
    raise TypeError(type(value))


ORDERED_DICT = Call(Global("collections", "OrderedDict"), ())
REBUILD = Global("torch._utils", "_rebuild_tensor_v2")
PARAMETER = Global("torch._utils", "_rebuild_parameter")
FLOAT = Global("torch", "FloatStorage")


def storage(elements=4, key="0", kind="FloatStorage") -> Reference:
    return Reference(("storage", Global("torch", kind), key, "cpu", elements))


def tensor(size=(4,), stride=(1,), offset=0, source=None) -> Call:
    source = storage() if source is None else source
    return Call(REBUILD, (source, offset, size, stride, False, ORDERED_DICT))


def save(path: Path, content, entries=None, compression=zipfile.ZIP_STORED, **options) -> Path:
    """Write a file as torch.save does, but with any pickle and any entries."""
    content = b"\x80\x02" + opcodes(content) + b"."
    if entries is None:
        entries = {"data/0": np.arange(4, dtype="<f4").tobytes()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in {"data.pkl": content, **options, **entries}.items():
            archive.writestr(f"archive/{name}", data)
    return path


def save_state_dict(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    """Write {name: float32 or int32 array} as `torch.save({"state_dict": ...})` does."""
    kinds = {"float32": "FloatStorage", "int32": "IntStorage"}
    state, entries = {}, {}
    for key, (name, array) in enumerate(arrays.items()):
        stride = tuple(step // array.itemsize for step in array.strides)
        source = storage(array.size, str(key), kinds[array.dtype.name])
        state[name] = tensor(array.shape, stride, source=source)
        entries[f"data/{key}"] = array.tobytes()
    return save(path, {"state_dict": state}, entries)
