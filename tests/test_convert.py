"""Checkpoints for MLX: the same model, in files that MLX tools expect."""

import json
import os

import checkpoints
import mlx.core as mx
import numpy as np
import pytest
from conftest import parameters, same
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from mlx_voxcpm2 import load_model
from mlx_voxcpm2.convert import checkpoint as module
from mlx_voxcpm2.convert import convert

LAYOUTS = ["mlx-audio", "mlx-voxcpm2"]
FILES = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_converted_checkpoint_is_the_same_model(case, tmp_path, layout):
    """Values are bit-identical, also where kernels are as wide as channels and strides are odd."""
    target = convert(case.folder, tmp_path / "converted", "float32", layout=layout)
    assert same(parameters(load_model(target)), parameters(case.model))
    options = {"seed": 3, "max_tokens": 3, "inference_timesteps": 2}
    (spoken,), (wanted,) = (
        model.generate("Hi.", **options) for model in (load_model(target), case.model)
    )
    assert np.array_equal(np.array(spoken.audio), np.array(wanted.audio))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", None])
def test_weights_have_the_requested_dtype(released, tmp_path, dtype):
    target, wanted = convert(released.folder, tmp_path / "converted", dtype), dtype or "bfloat16"
    assert json.loads((target / "config.json").read_text())["dtype"] == wanted
    stored = {value.dtype for value in mx.load(str(target / "model.safetensors")).values()}
    assert stored == {getattr(mx, wanted), mx.float32, mx.int32}  # the last two the AudioVAE's
    ours, original = (load_model(each, wanted) for each in (target, released.folder))
    assert same(parameters(ours), parameters(original))


def test_converted_files_are_those_that_mlx_tools_expect(released, tmp_path):
    target = convert(released.folder, tmp_path / "converted", "bfloat16")
    assert sorted(os.listdir(target)) == FILES
    assert os.listdir(tmp_path) == ["converted"]
    config = json.loads((target / "config.json").read_text())
    assert (config["model_type"], config["architecture"]) == ("voxcpm2", "voxcpm2")
    assert config["dtype"] == "bfloat16" and "quantization" not in config
    _, metadata = mx.load(str(target / "model.safetensors"), return_metadata=True)
    assert metadata["format"] == "mlx"
    with safe_open(target / "model.safetensors", "numpy") as file:  # the format's own reader
        assert file.get_slice("stop_head.weight").get_dtype() == "BF16"


def test_the_same_source_gives_the_same_bytes(exchange, tmp_path):
    one, two = (convert(exchange, tmp_path / name, quantize="4bit") for name in "ab")
    for name in FILES:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name


@pytest.mark.parametrize("layout", LAYOUTS)
def test_large_checkpoints_are_sharded(exchange, tmp_path, monkeypatch, layout):
    monkeypatch.setattr(module, "MAX_SHARD_BYTES", 200_000)
    target = convert(exchange, tmp_path / "converted", quantize="8bit", layout=layout)
    index = json.loads((target / "model.safetensors.index.json").read_text())
    shards = sorted(path.name for path in target.glob("*.safetensors"))
    count = len(shards)
    assert shards == [f"model-{n:05}-of-{count:05}.safetensors" for n in range(1, count + 1)]
    assert count > 1
    total = 0
    for shard in shards:
        tensors = mx.load(str(target / shard))
        size = sum(value.nbytes for value in tensors.values())
        assert size <= 200_000
        total += size
        assert all(index["weight_map"][name] == shard for name in tensors)
    assert index["metadata"]["total_size"] == total
    direct = parameters(load_model(exchange, quantize="8bit"))
    assert same(parameters(load_model(target)), direct)


def test_a_shard_is_five_gigabytes_at_most():
    assert module.MAX_SHARD_BYTES == 5e9


def test_conversion_needs_the_memory_of_a_few_tensors(tmp_path):
    """A model of 150 MB in tensors of a ninth each is never whole in memory, read or written."""
    wide = checkpoints.write_checkpoint(tmp_path / "wide", "exchange")
    config = json.loads((wide / "config.json").read_text())
    config["lm_config"]["intermediate_size"] = 64 * 1024
    config["residual_lm_num_layers"] = 2
    (wide / "config.json").write_text(json.dumps(config))
    tensors = load_file(wide / "model.safetensors")
    large = np.random.RandomState(0).random_sample((64 * 1024, 64)).astype(np.float32)
    layers = ["base_lm.layers.0", "residual_lm.layers.0", "residual_lm.layers.1"]
    for name in [name for name in tensors if name.startswith("residual_lm.layers.0")]:
        tensors[name.replace("layers.0", "layers.1")] = tensors[name]
    for layer in layers:
        tensors[f"{layer}.mlp.gate_proj.weight"] = tensors[f"{layer}.mlp.up_proj.weight"] = large
        tensors[f"{layer}.mlp.down_proj.weight"] = np.ascontiguousarray(large.T)
    save_file(tensors, wide / "model.safetensors", metadata={"format": "pt"})
    assert (wide / "model.safetensors").stat().st_size > 9 * large.nbytes
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    convert(wide, tmp_path / "converted", "float32")
    assert mx.get_peak_memory() - before < 4 * large.nbytes
