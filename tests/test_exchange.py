"""mlx-audio reads our converted checkpoints and finds the same weights in them.

With MLX_AUDIO_PYTHON, the interpreter of an environment with mlx-audio 0.6.2, the package itself is
run; without it, files that it once wrote stand in for it.
"""

import json
import os
import re
import subprocess
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from conftest import GOLDEN, parameters, relative_error, same

from mlx_voxcpm2 import load_model
from mlx_voxcpm2.convert import convert

RECIPES = "bf16 8bit 4bit 6bit 4bit-down6-dit8 8bit-dit16 mxfp4 mxfp8 nvfp4".split()


@pytest.fixture(scope="module")
def mlx_audio_tensors() -> dict[str, mx.array]:
    """mlx-audio's tensors, without RoPE's tables, which mlx-audio computes if they are missing."""
    tensors = mx.load(str(GOLDEN / "mlx_audio_bf16.safetensors"))
    return {name: value for name, value in tensors.items() if ".rope." not in name}


def read(folder: Path) -> dict[str, mx.array]:
    return mx.load(str(folder / "model.safetensors"))


def test_converted_weights_are_mlx_audios_in_higher_precision(
    exchange, mlx_audio_tensors, tmp_path
):
    """mlx-audio rounds the AudioVAE to bfloat16 too, and leaves the boundaries to config.json."""
    ours = read(convert(exchange, tmp_path / "converted", "bfloat16"))
    assert ours.pop("audio_vae.decoder._sr_boundaries").tolist() == [20000, 30000, 40000]
    assert ours.keys() == mlx_audio_tensors.keys()
    for name, value in ours.items():
        assert value.shape == mlx_audio_tensors[name].shape, name
        if name.startswith("audio_vae."):
            assert value.dtype == mx.float32
            rounded = mlx_audio_tensors[name].astype(mx.float32)
            assert relative_error(value, rounded) < 4e-3, name
        else:
            assert value.dtype == mx.bfloat16 and mx.array_equal(value, mlx_audio_tensors[name]), (
                name
            )


@pytest.mark.parametrize("recipe", RECIPES[1:])
def test_quantised_layers_are_found_by_mlx_audios_rules(
    exchange, mlx_audio_tensors, tmp_path, recipe
):
    """mlx-audio looks each linear layer up in config.json, then for its scales, and skips those
    whose inputs the common group size does not divide.
    """
    target = convert(exchange, tmp_path / "converted", quantize=recipe)
    ours, config = read(target), json.loads((target / "config.json").read_text())
    entry = config["quantization"]
    assert config["quantization_config"] == entry
    quantised = {name.removesuffix(".scales") for name in ours if name.endswith(".scales")}
    assert quantised
    for name, value in mlx_audio_tensors.items():
        path = name.removesuffix(".weight")
        if path not in quantised or name == path:
            assert ours[name].shape == value.shape, name
            assert entry.get(path, False) is False, name
            continue
        own = entry.get(path, entry)
        assert value.shape[1] % entry["group_size"] == 0
        expected = mx.quantize(value, own["group_size"], own["bits"], mode=own["mode"])
        for kind, part in zip(("weight", "scales", "biases"), expected, strict=False):
            assert mx.array_equal(ours[f"{path}.{kind}"], part), name
    packed = {f"{path}.{kind}" for path in quantised for kind in ("scales", "biases")}
    assert ours.keys() - packed == mlx_audio_tensors.keys() | {"audio_vae.decoder._sr_boundaries"}


def mlx_audio_sees(folders: list[Path], inputs: dict[str, np.ndarray]) -> list[dict]:
    python = os.environ.get("MLX_AUDIO_PYTHON")
    if not python:
        pytest.skip("MLX_AUDIO_PYTHON names no interpreter with mlx-audio")
    given = folders[0].parent / "inputs.npz"
    np.savez(given, **inputs)
    script = GOLDEN / "read_with_mlx_audio.py"
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [python, script, given, *folders], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return [dict(np.load(f"{folder}.npz")) for folder in folders]


def test_mlx_audio_itself_computes_the_same(exchange, tmp_path):
    random = np.random.RandomState(0)
    folders = [convert(exchange, tmp_path / name, quantize=name) for name in RECIPES]
    shapes = {"x": (1, 2, 32), "mu": (1, 128), "cond": (1, 2, 32), "latents": (1, 4, 32)}
    inputs = {name: random.standard_normal(shape) for name, shape in shapes.items()}
    inputs |= {"t": np.array([0.7]), "dt": np.array([0.1])}
    inputs = {name: value.astype(np.float32) for name, value in inputs.items()}
    inputs["tokens"] = np.array([[1, 5, 20, 101]])
    given = {name: mx.array(value) for name, value in inputs.items()}
    for folder, found in zip(folders, mlx_audio_sees(folders, inputs), strict=True):
        model = load_model(folder)
        stored = read(folder)
        for name, value in stored.items():
            if name.endswith("._sr_boundaries"):
                assert found["boundaries"].tolist() == value.tolist()
                continue
            wanted = value.astype(mx.float32) if value.dtype == mx.bfloat16 else value
            assert np.array_equal(found[f"parameter {name}"], np.array(wanted)), name
        hidden = model.base_lm(model.base_lm.embed(given["tokens"]))
        assert relative_error(found["hidden"], hidden.astype(mx.float32)) < 0.02
        numbers = (given[name].astype(mx.bfloat16) for name in ("x", "mu"))
        velocity = model.feat_decoder.estimator(
            *numbers, given["t"], given["cond"].astype(mx.bfloat16), given["dt"]
        )
        assert relative_error(found["velocity"], velocity.astype(mx.float32)) < 0.03
        sound = model.audio_vae.decode(given["latents"])
        # Its decoder adds samples at the end where a stride is odd.
        assert relative_error(found["sound"][:, : sound.shape[1]], sound) < 1e-4
        assert np.isfinite(found["speech"]).all() and found["speech"].std() > 1e-3


def test_tensor_names_survive_a_round_trip(exchange, tmp_path):
    """The files' boundaries are not those of config.json."""
    target = convert(exchange, tmp_path / "converted")
    tensors = read(target)
    tensors["audio_vae.decoder._sr_boundaries"] = mx.array([1, 2, 3], dtype=mx.int32)
    mx.eval(tensors)  # before the file that they are read from is written over
    mx.save_safetensors(str(target / "model.safetensors"), tensors, metadata={"format": "mlx"})
    loaded = parameters(load_model(target))
    assert loaded["audio_vae.decoder.sr_bin_boundaries"].tolist() == [1, 2, 3]
    again = convert(target, tmp_path / "again", layout="mlx-voxcpm2")
    assert same(parameters(load_model(again)), loaded)
    assert not [name for name in read(again) if re.search(r"conv_in|snake|_sr_bound", name)]
