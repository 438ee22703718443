"""Adapter files: reading upstream's, writing ours, errors in one line."""

import json
import os
import shutil
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import soundfile
from conftest import GOLDEN, parameters, same
from golden.cases import OUR_ADAPTER
from hub_client import hub_client
from hub_stand_in import Hub
from safetensors import safe_open
from safetensors.numpy import load_file
from torch_files import save_state_dict

from mlx_voxcpm2 import load_model
from mlx_voxcpm2.commands import generate
from mlx_voxcpm2.convert import __main__ as converting
from mlx_voxcpm2.models.voxcpm2.lora import LoRASettings
from mlx_voxcpm2.weights.adapter_files import read_adapter, save_adapter, split_strength

OFFICIAL, OURS = GOLDEN / "adapters" / "official", GOLDEN / "adapters" / "ours"
WEIGHTS, SETTINGS = "lora_weights.safetensors", "lora_config.json"


@pytest.fixture
def adapter_folder(tmp_path) -> Path:
    """A copy of the official adapter, to be damaged."""
    return Path(shutil.copytree(OFFICIAL, tmp_path / "adapter"))


def test_a_folder_its_file_and_the_old_format_are_the_same_adapter(adapter_folder):
    tensors = load_file(adapter_folder / WEIGHTS)
    wanted = {name: mx.array(value) for name, value in tensors.items()}
    for path in (adapter_folder, str(adapter_folder), adapter_folder / WEIGHTS):
        stored = read_adapter(path)
        assert same(stored.tensors, wanted)
        assert stored.settings == LoRASettings(enable_proj=True, r=4, alpha=4)
        assert (stored.trained_scale, stored.strength) == (1, 1)
    (adapter_folder / WEIGHTS).unlink()
    save_state_dict(adapter_folder / "lora_weights.ckpt", tensors)
    for path in (adapter_folder, adapter_folder / "lora_weights.ckpt"):
        assert same(read_adapter(path).tensors, wanted)


def test_an_adapter_without_settings_needs_a_strength(adapter_folder):
    """Alpha is in no tensor; the given strength then multiplies B A itself."""
    text = (adapter_folder / SETTINGS).read_text()
    (adapter_folder / SETTINGS).write_text(text.replace('"alpha": 4', '"alpha": 12'))
    assert read_adapter(adapter_folder, 0.5).scale == 1.5
    (adapter_folder / SETTINGS).unlink()
    with pytest.raises(
        ValueError, match=f"no {SETTINGS} beside it, so alpha is unknown; .* give a str"
    ):
        read_adapter(adapter_folder)
    assert read_adapter(adapter_folder, 0.5).scale == 0.5


def settings(folder: Path, **changes: object) -> None:
    data = json.loads((folder / SETTINGS).read_text())
    data["lora_config"].update(changes)
    (folder / SETTINGS).write_text(json.dumps(data))


DAMAGE = {
    "lora_config.json: r is 0; it must be a whole number of at least 1": lambda f: settings(f, r=0),
    "lora_config.json: alpha is '4'; it must be": lambda f: settings(f, alpha="4"),
    "dropout is 1; it must be a number from 0 to 0.99": lambda f: settings(f, dropout=1),
    "enable_lm is 1; it must be true or false": lambda f: settings(f, enable_lm=1),
    "target_modules_lm is 'q_proj'; it must be a list of names": lambda f: settings(
        f, target_modules_lm="q_proj"
    ),
    "no lora_config with r and alpha in it": lambda f: (f / SETTINGS).write_text('{"r": 4}'),
    "lora_config.json: not valid JSON": lambda f: (f / SETTINGS).write_text("{"),
    "lora_weights.safetensors: damaged or incomplete": lambda f: os.truncate(f / WEIGHTS, 999),
    "adapter: no lora_weights.safetensors here; give a folder such as latest/": lambda f: (
        f / WEIGHTS
    ).unlink(),
    "adapter: no such folder; check the path": shutil.rmtree,
}


@pytest.mark.parametrize("line", DAMAGE)
def test_a_damaged_adapter_is_an_error_that_names_the_fault(adapter_folder, line):
    DAMAGE[line](adapter_folder)
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        read_adapter(adapter_folder)
    assert line in str(caught.value) and "\n" not in str(caught.value)


def test_unknown_settings_of_a_later_version_are_logged(adapter_folder, caplog):
    settings(adapter_folder, use_rslora=True)
    read_adapter(adapter_folder)
    assert "not known, not used: use_rslora" in caplog.text


def test_an_adapter_is_downloaded_without_the_repositorys_other_files(adapter_folder, tmp_path):
    (adapter_folder / "optimizer.pth").write_text("of no use")
    with Hub() as hub, hub_client(hub.environment(tmp_path / "cache")):
        hub.add("org/adapter", adapter_folder)
        assert len(read_adapter("org/adapter").tensors) == 64
        assert hub.fetched() == [SETTINGS, WEIGHTS]


def test_saved_adapters_are_exactly_upstreams_files(tmp_path):
    """The official package has loaded these files (golden/record_adapters.py)."""
    stored = read_adapter(OURS)
    assert stored.settings == LoRASettings(**OUR_ADAPTER)
    folder = save_adapter(tmp_path / "new", stored.tensors, stored.settings, "openbmb/VoxCPM2")
    assert sorted(os.listdir(folder)) == [SETTINGS, WEIGHTS]
    assert os.listdir(tmp_path) == ["new"]
    assert (folder / SETTINGS).read_bytes() == (OURS / SETTINGS).read_bytes()
    assert same(read_adapter(folder).tensors, stored.tensors)
    with safe_open(folder / WEIGHTS, "numpy") as file:
        layers = [f"base_lm.layers.{i}" for i in range(3)]
        layers += [f"residual_lm.layers.{i}" for i in range(2)]
        paths = [f"{layer}.self_attn.{x}_proj" for layer in layers for x in "qkvo"]
        decoder = "feat_decoder.estimator.decoder.layers"
        paths += [f"{decoder}.{i}.self_attn.{x}_proj" for i in range(2) for x in "qo"]
        assert set(file.keys()) == {f"{path}.lora_{x}" for path in paths for x in "AB"}
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"F32"}
        assert file.get_slice(f"{paths[0]}.lora_A").get_shape() == [3, 64]
        assert file.get_slice(f"{paths[0]}.lora_B").get_shape() == [96, 3]
    assert json.loads((OURS / SETTINGS).read_text()).keys() == {"base_model", "lora_config"}
    ours, theirs = (json.loads((f / SETTINGS).read_text())["lora_config"] for f in (OURS, OFFICIAL))
    assert list(ours) == list(theirs)
    assert all(type(ours[name]) is type(theirs[name]) for name in ours)
    half = {name: value.astype(mx.bfloat16) for name, value in stored.tensors.items()}
    save_adapter(folder, half, stored.settings, overwrite=True)
    assert {value.dtype for value in read_adapter(folder).tensors.values()} == {mx.float32}


def test_saving_neither_overwrites_unasked_nor_leaves_partial_files(tmp_path, monkeypatch):
    stored = read_adapter(OURS)
    arguments = (stored.tensors, stored.settings)
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="other exists already; choose another folder"):
        save_adapter(other, *arguments)
    with pytest.raises(FileExistsError, match="other is no adapter's folder, or holds more"):
        save_adapter(other, *arguments, overwrite=True)
    folder = save_adapter(tmp_path / "new", *arguments)
    before = (folder / WEIGHTS).read_bytes()
    with pytest.raises(FileNotFoundError, match="missing: no such folder; create it first"):
        save_adapter(tmp_path / "missing" / "new", *arguments)

    def fail(*_, **__):
        raise RuntimeError("no space left on device")

    monkeypatch.setattr(mx, "save_safetensors", fail)
    with pytest.raises(OSError, match=r"can.t be written .no space left on device.; make room"):
        save_adapter(folder, *arguments, overwrite=True)
    assert (folder / WEIGHTS).read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["new", "other"]


@pytest.mark.parametrize(
    ("text", "path", "strength"),
    [
        ("voice", "voice", None),
        ("voice:0.5", "voice", 0.5),
        ("org/voice:-2", "org/voice", -2),
        ("a:b", "a:b", None),
        ("a:b:1e-1", "a:b", 0.1),
        ("there:1", "there:1", None),
        ("there:1:2", "there:1", 2),
        ("voice:", "voice:", None),
    ],
)
def test_a_number_behind_the_last_colon_is_the_strength(
    text, path, strength, tmp_path, monkeypatch
):
    """A file or folder that has the whole text as its name takes precedence."""
    monkeypatch.chdir(tmp_path)
    Path("there:1").mkdir()
    assert split_strength(text) == (path, strength)


def test_the_command_speaks_with_an_adapter(released, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    quick = ["--dtype", "float32", "--inference_timesteps", "2", "--max_tokens", "3", "--seed", "7"]
    model = load_model(released.folder, "float32", adapter=OFFICIAL, adapter_strength=0.5)
    (result,) = model.generate("Hello.", seed=7, max_tokens=3, inference_timesteps=2)
    arguments = ["--model", str(released.folder), "--text", "Hello.", *quick]
    assert generate.main([*arguments, "--adapter", f"{OFFICIAL}:0.5"]) == 0
    audio, _ = soundfile.read("speech.wav", dtype="float32")
    np.testing.assert_allclose(audio, np.array(result.audio), atol=2 / 2**15)


def test_the_command_converts_with_an_adapter(released, tmp_path):
    arguments = ["--hf_path", str(released.folder), "--dtype", "float32"]
    target = tmp_path / "new"
    given = ["--mlx_path", str(target), "--adapter", f"{OFFICIAL}:0.5"]
    assert converting.main([*arguments, *given]) == 0
    model = load_model(released.folder, "float32", adapter=OFFICIAL, adapter_strength=0.5)
    model.fuse_adapter()
    assert same(parameters(load_model(target)), parameters(model))


BAD = {
    "missing": "missing: no such folder; check the path",
    "": "the adapter's name is empty; give",
    ":2": "the adapter's name is empty; give",
    f"{OFFICIAL}:nan": "the adapter's strength is nan; it must be a finite number",
    f"{OFFICIAL}.safetensors:1": "no tensor fits this model",
    f"{OFFICIAL / SETTINGS}": "lora_config.json is no adapter; give a folder",
}


@pytest.mark.parametrize("adapter", BAD)
@pytest.mark.parametrize("command", ["generate", "convert"])
def test_a_bad_adapter_gives_one_line_and_status_2(
    command, adapter, released, tmp_path, monkeypatch, run_command
):
    monkeypatch.chdir(tmp_path)
    if command == "generate":
        arguments = ["--model", released.folder, "--text", "a", "--adapter", adapter]
        status, _, err = run_command(generate.main, *arguments)
    else:
        arguments = ["--hf_path", released.folder, "--adapter", adapter]
        status, _, err = run_command(converting.main, *arguments)
    assert status == 2 and err.count("\n") == 1 and "Traceback" not in err
    assert (BAD[adapter] if command == "generate" or adapter else "--adapter is empty") in err
    assert os.listdir() == []
