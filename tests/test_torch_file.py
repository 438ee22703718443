"""Reading torch.save's files: correct values from valid files, one-line refusals of all others."""

import os
import pickle
import random
import struct
import tracemalloc
import zipfile
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from torch_files import (
    FLOAT,
    ORDERED_DICT,
    PARAMETER,
    REBUILD,
    Build,
    Call,
    Global,
    Items,
    Reference,
    StackGlobal,
    opcodes,
    save,
    storage,
    tensor,
)

from mlx_voxcpm2.weights import torch_pickle
from mlx_voxcpm2.weights.torch_file import load_torch_file

GOLDEN = Path(__file__).parent / "golden" / "torch_file.pth"


def refusal(path: Path) -> str:
    with pytest.raises(ValueError) as caught:
        load_torch_file(path)
    message = str(caught.value)
    assert type(caught.value) is ValueError
    assert path.name in message
    assert message.isprintable() and message.isascii()  # so it is one line
    return message


def expected_golden() -> dict[str, mx.array]:
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    quarters = mx.array(np.arange(12, dtype=np.float32).reshape(3, 4) / 4 - 1)
    sevens = mx.array(np.arange(5) * 7)
    expected = {
        "weight": mx.full((3,), 0.5),
        "bias": mx.zeros((3,)),
        "running_mean": mx.zeros((3,)),
        "running_var": mx.ones((3,)),
        "num_batches_tracked": mx.array(0, mx.int64),
        "float32": quarters,
        "float64": quarters,
        "float16": quarters.astype(mx.float16),
        "bfloat16": quarters.astype(mx.bfloat16),
        **{n: sevens.astype(getattr(mx, n)) for n in ("int64", "int32", "int16", "int8", "uint8")},
        "int64_large": mx.array([2**40, -(2**40)], mx.int64),
        "bool": mx.array([True, False, False, True, False, False]),
        "parameter": mx.arange(4, dtype=mx.float32),
        "base": mx.array(base),
        "same": mx.array(base),
        "row": mx.array(base[2]),
        "column": mx.array(base[:, 1]),
        "every_other": mx.array(base[1::2, ::3]),
        "transposed": mx.array(base.T),
        "permuted": mx.arange(24, dtype=mx.bfloat16).reshape(2, 3, 4).transpose(2, 0, 1),
        "expanded": mx.broadcast_to(mx.arange(3, dtype=mx.float32)[:, None], (3, 4)),
        "scalar": mx.array(2.5),
        "scalar_bfloat16": mx.array(2.5, mx.bfloat16),
        "scalar_bool": mx.array(True),
        "empty": mx.zeros((0, 3)),
        "empty_bfloat16": mx.zeros((2, 0), mx.bfloat16),
        "名 with\nnewline": mx.ones((1,)),
    }
    return expected


def test_a_file_of_torch_save_is_read_exactly():
    arrays, expected = load_torch_file(GOLDEN), expected_golden()
    assert list(arrays) == list(expected)
    for name, array in arrays.items():
        assert array.dtype == expected[name].dtype, name
        assert array.shape == expected[name].shape, name
        assert mx.array_equal(array, expected[name]), name
    assert load_torch_file(str(GOLDEN)).keys() == expected.keys()


def test_a_dict_without_a_wrapper_is_read(tmp_path):
    metadata = Items(ORDERED_DICT, {"": {"version": 1}})
    state = Build(Items(ORDERED_DICT, {"a.b": tensor()}), {"_metadata": metadata})
    for content in ({"a.b": tensor()}, state, {"state_dict": state, "optimizer": [{"lr": 0.1}]}):
        arrays = load_torch_file(save(tmp_path / "a.pth", content))
        assert list(arrays) == ["a.b"]
        assert arrays["a.b"].tolist() == [0, 1, 2, 3]


def test_pickle_protocol_4_is_read(tmp_path):
    names = StackGlobal("torch._utils", "_rebuild_tensor_v2"), StackGlobal("torch", "FloatStorage")
    source = Reference(("storage", names[1], "0", "cuda:0", 4))
    content = b"\x80\x04" + opcodes({"a": Call(names[0], (source, 1, (3,), (1,), True, {}))})
    assert load_torch_file(save(tmp_path / "a.pth", content))["a"].tolist() == [1, 2, 3]


def test_any_stride_along_an_axis_of_one_is_read(tmp_path):
    path = save(tmp_path / "a.pth", {"a": tensor((1, 2, 1), (2**62, 2, 999))})
    assert load_torch_file(path)["a"].tolist() == [[[0], [2]]]


@pytest.mark.parametrize("byte", [1, 2, 255])
def test_any_byte_but_zero_is_true(tmp_path, byte):
    content = {"a": tensor((2,), source=storage(2, kind="BoolStorage"))}
    path = save(tmp_path / "a.pth", content, {"data/0": bytes([0, byte])})
    assert load_torch_file(path)["a"].tolist() == [False, True]


def test_float64_is_rounded_but_never_becomes_infinite(tmp_path):
    content = {"a": tensor((3,), source=storage(3, kind="DoubleStorage"))}
    numbers = np.array([1 + 2**-24 + 2**-40, -np.inf, 1e-300])
    path = save(tmp_path / "a.pth", content, {"data/0": numbers.tobytes()})
    assert load_torch_file(path)["a"].tolist() == [1 + 2**-23, -np.inf, 0]
    numbers[0] = 1e39
    path = save(tmp_path / "b.pth", content, {"data/0": numbers.tobytes()})
    assert "too large for float32" in refusal(path)


def test_bfloat16_keeps_every_bit(tmp_path):
    bits = np.arange(2**16, dtype="<u2")
    content = {"a": tensor((2**16,), source=storage(2**16, kind="BFloat16Storage"))}
    array = load_torch_file(save(tmp_path / "a.pth", content, {"data/0": bits.tobytes()}))["a"]
    assert array.dtype == mx.bfloat16
    assert np.array_equal(np.array(array.view(mx.uint16)), bits)


# First forbidden name of each file, and a payload that creates the file "marker" if it is run.
TOUCH = "open('marker', 'w').close()"
GETATTR = Global("builtins", "getattr")
ATTACKS = {
    "os.system": Call(Global("os", "system"), ("touch marker",)),
    "posix.system": Call(StackGlobal("posix", "system"), ("touch marker",)),
    "builtins.exec": Call(Global("builtins", "exec"), (TOUCH,)),
    "builtins.eval": Call(StackGlobal("builtins", "eval"), (TOUCH,)),
    "builtins.getattr": Call(
        Call(GETATTR, (Call(GETATTR, (Global("os", "path"), "os")), "system")), ("touch marker",)
    ),
    "os.path.os.system": Call(StackGlobal("os", "path.os.system"), ("touch marker",)),
    "subprocess.call": Call(Global("subprocess", "call"), (["touch", "marker"],)),
    "INST os system": b"(" + opcodes("touch marker") + b"ios\nsystem\n",
    "OBJ": b"(" + opcodes(Global("os", "system")) + opcodes("touch marker") + b"o",
    "builtins.list": Call(
        Global("builtins", "list"),
        (Call(Global("builtins", "map"), (Global("os", "system"), ["touch marker"])),),
    ),
}
NO_TENSOR_NEEDS = {
    "numpy.core.multiarray._reconstruct": Global("numpy.core.multiarray", "_reconstruct"),
    "copyreg._reconstructor": Global("copyreg", "_reconstructor"),
    "copy_reg._reconstructor": Global("copy_reg", "_reconstructor"),
    "torch.load": Global("torch", "load"),
    "torch.storage._load_from_bytes": Global("torch.storage", "_load_from_bytes"),
    "torch._utils._rebuild_tensor_v2.__globals__": StackGlobal(
        "torch._utils", "_rebuild_tensor_v2.__globals__"
    ),
    "torch.ComplexFloatStorage": Global("torch", "ComplexFloatStorage"),
    "collections.OrderedDict.fromkeys": StackGlobal("collections", "OrderedDict.fromkeys"),
    ".OrderedDict": StackGlobal("", "OrderedDict"),
    "NEWOBJ": opcodes(Global("collections", "OrderedDict")) + b")\x81",
    "EXT1": b"\x82\x01",
    "BYTEARRAY8": b"\x96" + b"\0" * 8,
    "LONG4": b"\x8b\x01\0\0\0\x05",
    "PUT": b"Np1000000000\n",
    "system\\n\\x1b[31m\\u2028": StackGlobal("os", "system\n\x1b[31m\u2028"),
}


@pytest.mark.skipif(os.name != "posix", reason="the attacks use touch")
@pytest.mark.parametrize("asked", ATTACKS)
def test_no_code_from_the_file_runs(tmp_path, monkeypatch, asked):
    monkeypatch.chdir(tmp_path)
    for content in ({"a": tensor(), "b": ATTACKS[asked]}, ATTACKS[asked]):
        message = refusal(save(tmp_path / "a.pth", content))
        assert f"asks for '{asked}', which no tensor needs" in message
        assert "download the file again from a source you trust, or convert it" in message
    assert not Path("marker").exists()
    pickle.loads(b"\x80\x04" + opcodes(ATTACKS[asked]) + b".")
    assert Path("marker").exists(), "the attack is no attack"


@pytest.mark.parametrize("asked", NO_TENSOR_NEEDS)
def test_every_other_name_and_opcode_is_refused_by_name(tmp_path, asked):
    content = {"a": tensor(), "b": NO_TENSOR_NEEDS[asked]}
    assert asked in refusal(save(tmp_path / "a.pth", content))


MISUSES = {
    "a storage called": Call(FLOAT, ()),
    "OrderedDict of arguments": Call(Global("collections", "OrderedDict"), ([("a", 1)],)),
    "no arguments": Call(REBUILD, ()),
    "a number for a storage": tensor(source=5),
    "a list of sizes": tensor(size=[4]),
    "text as offset": tensor(offset="0"),
    "conjugated": Call(REBUILD, (storage(), 0, (4,), (1,), False, {}, {"conj": True})),
    "parameter of a number": Call(PARAMETER, (1, True, {})),
    "parameter of a storage": Call(PARAMETER, (storage(), True, {})),
    "parameter of a dict": Call(PARAMETER, ({}, True, {})),
    "call of a number": Call(1, ()),
    "call of a tensor": Call(tensor(), ()),
    "arguments in a list": Call(REBUILD, [1]),
    "no storage type": Reference(("storage", REBUILD, "0", "cpu", 4)),
    "storage type as text": Reference(("storage", "torch.FloatStorage", "0", "cpu", 4)),
    "short reference": Reference(("storage", FLOAT)),
    "reference by number": Reference(7),
    "key as number": storage(key=0),
    "attributes of OrderedDict": Build(ORDERED_DICT, {"items": 1}),
    "attributes beside metadata": Build(ORDERED_DICT, {"_metadata": {}, "get": 1}),
    "slots of OrderedDict": Build(ORDERED_DICT, (None, {"get": 1})),
    "attributes of a dict": Build({}, {"get": 1}),
    "attributes of a class": Build(Global("collections", "OrderedDict"), {"get": 1}),
    "slots of a class": Build(Global("collections", "OrderedDict"), (None, {"name": "os.system"})),
    "attributes of a function": Build(REBUILD, {"__wrapped__": 1}),
    "slots of a function": Build(REBUILD, (None, {"name": "os.system"})),
    "attributes of a tensor": Build(tensor(), {"offset": 2**40}),
    "slots of a tensor": Build(tensor(), (None, {"offset": 2**40})),
    "slots of a storage": Build(storage(), (None, {"elements": 2**40})),
    "items of a tensor": Items(tensor(), {1: 2**40}),
    "unhashable key": {"x": Items({}, {"k": 1}), "y": b"}(]Nu"},
    "memo hole": b"h\x63",
    "empty stack": b"RRRRRR",
}


@pytest.mark.parametrize("misuse", MISUSES)
def test_the_allowed_names_only_describe_tensors(tmp_path, misuse):
    wrapped = {"state_dict": {"a": tensor()}, "other": MISUSES[misuse]}
    message = refusal(save(tmp_path / "a.pth", wrapped))
    assert "'other'" not in message  # refused for its function, not for its position
    load_torch_file(GOLDEN)  # no state is left from one file to the next


def test_nested_tuples_do_not_overflow_the_stack(tmp_path):
    wrapped = {"state_dict": {"a": tensor()}}
    shallow, deep = (b"})" + b"\x85" * depth + b"Ns" for depth in (40_000, 400_000))
    assert "keys that are not text" in refusal(save(tmp_path / "a.pth", wrapped | {"b": shallow}))
    assert "describes more than 10000 tensors" in refusal(
        save(tmp_path / "b.pth", wrapped | {"b": deep})
    )


def test_a_key_of_tuples_in_tuples_twice_each_is_not_hashed(tmp_path):
    """Its hash would take twice as long with each of them: an hour for 359 bytes."""
    doubled = b")" + b"".join(bytes([0x71, i, 0x68, i, 0x86]) for i in range(60))
    for content in (b"}" + doubled + b"Ns", b"}(" + doubled + b"Nu"):
        path = save(tmp_path / "a.pth", {"a": tensor(), "b": content})
        assert "keys that are not text" in refusal(path)


def test_a_memo_index_that_would_fill_the_memory_is_refused(tmp_path):
    content = {"a": tensor(), "b": b"Nr" + struct.pack("<I", 10**6)}
    assert "(data.pkl, memo)" in refusal(save(tmp_path / "a.pth", content))


LAYOUTS = {
    "past the end": {"size": (5,)},
    "by an offset": {"offset": 1},
    "by an offset of a scalar": {"size": (), "stride": (), "offset": 4},
    "by a stride": {"size": (2, 2), "stride": (3, 1)},
    "by a huge stride": {"size": (2,), "stride": (2**62,)},
    "by an overflowing stride": {"size": (5, 2), "stride": (2**62, 2**61)},
    "by more than 64 bits": {"size": (2,), "stride": (2**64 + 1,)},
    "negative size": {"size": (-4,)},
    "two negative sizes": {"size": (-2, -2), "stride": (2, 1)},
    "negative stride": {"stride": (-1,), "offset": 3},
    "negative offset": {"offset": -1},
    "huge size": {"size": (2**40,)},
    "huge size repeated": {"size": (2**40,), "stride": (0,)},
    "huge product repeated": {"size": (2**30, 2**30), "stride": (0, 0)},
    "repeated too often": {"size": (10**5,), "stride": (0,)},
    "huge and empty": {"size": (0, 2**31), "stride": (1, 1)},
    "huge product and empty": {"size": (0, 2**30, 2**30), "stride": (1, 1, 1)},
    "more sizes than strides": {"size": (2, 2)},
    "more strides than sizes": {"stride": (1, 1)},
    "true as a size": {"size": (True,)},
    "text as a size": {"size": ("4",)},
    "number as a stride": {"stride": (0.5,)},
    "33 axes": {"size": (1,) * 33, "stride": (1,) * 33},
    "storage shorter than the tensor": {"source": storage(3)},
    "storage shorter than its entry": {"source": storage(3), "size": (3,)},
    "storage longer than its entry": {"source": storage(5), "size": (5,)},
    "negative storage": {"source": storage(-4)},
    "wrong type": {"source": storage(kind="DoubleStorage")},
    "storage missing": {"source": storage(key="1")},
    "storage outside": {"source": storage(key="../../data.pkl")},
    "storage by a path": {"source": storage(key="/etc/passwd")},
    "storage with a line break": {"source": storage(key="\n")},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_tensor_reaches_outside_its_storage(tmp_path, layout):
    path = save(tmp_path / "a.pth", {"fine": tensor(), "bad": tensor(**LAYOUTS[layout])})
    assert "fine" not in refusal(path)


NO_TENSORS = {
    "no tensors": {},
    "no tensors in the wrapper": {"state_dict": {}},
    "a tensor": tensor(),
    "a list": [tensor()],
    "a number": 5,
    "a function": REBUILD,
    "an optimiser": {"state": {}, "param_groups": [{"lr": 0.1}]},
    "a module": {"model": {"a": tensor()}, "epoch": 3},
    "a number among tensors": {"a": tensor(), "step": 3},
    "a storage": {"a": storage()},
    "a number as name": {1: tensor()},
    "None as name": {"state_dict": {None: tensor()}},
}


@pytest.mark.parametrize("content", NO_TENSORS)
def test_other_values_than_tensors_are_refused(tmp_path, content):
    path = save(tmp_path / "a.pth", NO_TENSORS[content])
    assert "save only model.state_dict()" in refusal(path)


def test_a_missing_file_and_a_folder_have_different_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a\.pth does not exist: check the path"):
        load_torch_file(tmp_path / "a.pth")
    assert "is not a file" in refusal(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2),  # the beginning of files before torch 1.6
        b"version https://git-lfs.github.com/spec/v1\n",
        b"PK",
        b"\0" * 1000,
    ],
)
def test_other_formats_are_refused(tmp_path, content):
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    assert "is not a PyTorch file of the zip format" in refusal(path)


def test_an_empty_file_is_refused(tmp_path):
    path = tmp_path / "a.pth"
    path.touch()
    assert "is empty" in refusal(path)


def test_other_archives_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, a=np.zeros(3))
    assert "is a zip archive but not a PyTorch file" in refusal(path)
    path = save(tmp_path / "two.pth", {"a": tensor()}, {"b/data.pkl": b""})
    assert "is a zip archive but not a PyTorch file" in refusal(path)


def test_unusual_archives_are_refused(tmp_path, monkeypatch):
    content = {"a": tensor()}
    path = save(tmp_path / "a.pth", content, compression=zipfile.ZIP_DEFLATED)
    assert "has a compressed entry" in refusal(path)
    assert "not little-endian" in refusal(save(tmp_path / "b.pth", content, byteorder=b"big"))
    path = save(tmp_path / "c.pth", content, byteorder=b"little")
    assert load_torch_file(path)["a"].tolist() == [0, 1, 2, 3]
    monkeypatch.setattr(torch_pickle, "MAX_PICKLE_BYTES", 100)
    assert "far too large" in refusal(path)


def test_a_file_cut_anywhere_is_refused(tmp_path):
    whole, path = GOLDEN.read_bytes(), tmp_path / "a.pth"
    cuts = {*range(0, len(whole), len(whole) // 40), *(len(whole) - n for n in range(1, 120))}
    for cut in sorted(cuts):
        path.write_bytes(whole[:cut])
        refusal(path)


def test_a_damaged_storage_is_refused(tmp_path):
    content, path = bytearray(GOLDEN.read_bytes()), tmp_path / "a.pth"
    place = content.index(np.arange(24, dtype="<f4").tobytes()) + 50
    content[place] ^= 1
    path.write_bytes(content)
    assert "is cut short or damaged (at 'data/" in refusal(path)


def readable(path: Path) -> bool:
    try:
        mx.eval(load_torch_file(path))
        return True
    except ValueError:
        refusal(path)
        return False


def test_a_damaged_file_is_refused_or_read(tmp_path):
    whole, path, rng = GOLDEN.read_bytes(), tmp_path / "a.pth", random.Random(1)
    outcomes = []
    for _ in range(300):
        content = bytearray(whole)
        content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content)
        outcomes.append(readable(path))
    assert {True, False} == set(outcomes)


@pytest.mark.filterwarnings("ignore:invalid escape")  # from pickletools, on damaged text
def test_a_damaged_pickle_with_a_correct_checksum_is_refused_or_read(tmp_path):
    with zipfile.ZipFile(GOLDEN) as archive:
        entries = {n.removeprefix("torch_file/"): archive.read(n) for n in archive.namelist()}
    whole = entries.pop("data.pkl")
    assert readable(save(tmp_path / "a.pth", whole[2:-1], entries))
    rng, outcomes = random.Random(2), []
    for _ in range(400):
        content = bytearray(whole)
        for _ in range(rng.choice([1, 1, 2, 8])):
            content[rng.randrange(2, len(content))] = rng.randrange(256)
        outcomes.append(readable(save(tmp_path / "a.pth", bytes(content[2:-1]), entries)))
    assert {True, False} == set(outcomes)


def test_memory_holds_one_copy_of_the_tensors(tmp_path):
    n, count = 2**20, 8
    content = {
        str(i): tensor((n,), source=storage(n, key=str(i), kind="BFloat16Storage"))
        for i in range(count)
    }
    numbers = np.arange(n, dtype="<u2").tobytes()
    path = save(tmp_path / "a.pth", content, {f"data/{i}": numbers for i in range(count)})
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    tracemalloc.start()
    try:
        arrays = load_torch_file(path)
        mx.eval(arrays)
        peak_of_python = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    total = sum(array.nbytes for array in arrays.values())
    assert total == 2 * n * count
    assert mx.get_peak_memory() - before < 1.05 * total
    assert peak_of_python < 2 * n  # numpy's arrays count, mapped files do not
