"""Files from strangers: whatever is in them, one line says so, soon, and without taking memory.

Hypothesis changes bytes and values; each test takes a second or so. Files of text are in
`test_strangers_texts.py`.
"""

import io
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from strangers import ODD, fuzzed, paths, refused_or_read, with_value

from mlx_voxcpm2 import Voice
from mlx_voxcpm2.audio.reading import read_audio
from mlx_voxcpm2.weights.adapter_files import read_adapter
from mlx_voxcpm2.weights.torch_file import load_torch_file

GOLDEN = Path(__file__).parent / "golden"


def changes():
    """Places, as fractions of a file, with the bytes to put there; and how much of it to keep."""
    edits = st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=4)), max_size=4)
    return st.tuples(edits, st.one_of(st.just(1.0), st.floats(0, 1)))


def changed(data: bytes, change, head: int | None = None) -> bytes:
    """head: only the first bytes are changed."""
    edits, kept = change
    result = bytearray(data)
    for place, new in edits:
        at = int(place * (min(head or len(data), len(data)) - 1))
        result[at : at + len(new)] = new
    return bytes(result[: int(kept * len(result))])


@fuzzed
@given(changes())
def test_pytorch_files(tmp_path_factory, change):
    file = tmp_path_factory.getbasetemp() / "a.pth"
    file.write_bytes(changed((GOLDEN / "torch_file.pth").read_bytes(), change))
    refused_or_read(load_torch_file, file, named=str(file))


@fuzzed
@given(changes())
def test_pickles_in_pytorch_files(tmp_path_factory, change):
    """The archive around the pickle is whole."""
    file = tmp_path_factory.getbasetemp() / "b.pth"
    with zipfile.ZipFile(GOLDEN / "torch_file.pth") as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, changed(data, change) if name.endswith("data.pkl") else data)
    refused_or_read(load_torch_file, file, named=str(file))


@fuzzed
@given(changes())
def test_voices(tmp_path_factory, anna_folder, change):
    file = tmp_path_factory.getbasetemp() / "a.safetensors"
    data = (anna_folder / "voices" / "anna.safetensors").read_bytes()
    file.write_bytes(changed(data, change, head=600))
    refused_or_read(Voice.load, file, named=str(file))


def test_odd_values_in_the_header_of_a_voice(tmp_path, anna_folder):
    data = (anna_folder / "voices" / "anna.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    file, printable = tmp_path / "a.safetensors", ODD[:2] + ODD[3:]
    for path in paths(header):
        for value in [*printable, *map(str, printable)]:
            new = json.dumps(with_value(header, path, value)).encode()
            file.write_bytes(len(new).to_bytes(8, "little") + new + data[8 + length :])
            refused_or_read(Voice.load, file, named=str(file))


@fuzzed
@given(st.sampled_from(["lora_weights.safetensors", "lora_config.json"]), changes())
def test_adapters(tmp_path_factory, name, change):
    folder = tmp_path_factory.getbasetemp() / "adapter"
    if not folder.exists():
        shutil.copytree(GOLDEN / "adapters" / "ours", folder)
    data = (GOLDEN / "adapters" / "ours" / name).read_bytes()
    (folder / name).write_bytes(changed(data, change, head=600))
    refused_or_read(read_adapter, folder, named=str(folder / name))
    (folder / name).write_bytes(data)


def test_odd_values_in_an_adapter(tmp_path):
    folder = Path(shutil.copytree(GOLDEN / "adapters" / "ours", tmp_path / "adapter"))
    file = folder / "lora_config.json"
    data = json.loads(file.read_text())
    for path in paths(data):
        for value in ODD[:2] + ODD[3:]:
            file.write_text(json.dumps(with_value(data, path, value)))
            refused_or_read(read_adapter, folder, named=str(folder))


@fuzzed
@given(st.sampled_from(["WAV", "FLAC", "OGG", "MP3", "AIFF"]), changes())
def test_clips(container, change):
    file = io.BytesIO()
    soundfile.write(file, np.sin(np.arange(4000) / 9) / 2, 16_000, format=container)
    refused_or_read(read_audio, changed(file.getvalue(), change, head=200), 16_000)
