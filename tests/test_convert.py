"""Checkpoints in this package's own layout."""

import json
import os

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from mlx_voxcpm2.convert import __main__ as command
from mlx_voxcpm2.convert import convert

from mlx_voxcpm2 import load_model


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_converted_checkpoint_is_the_same_model_in_the_type_asked_for(make_case, tmp_path, dtype):
    source = make_case("released").folder
    target = convert(source, tmp_path / "converted", dtype)
    ours, original = load_model(target), load_model(source, dtype=dtype)
    assert ours.dtype == getattr(mx, dtype)
    weights = dict(tree_flatten(ours.parameters()))
    expected = dict(tree_flatten(original.parameters()))
    assert weights.keys() == expected.keys()
    assert all(mx.array_equal(weights[name], expected[name]) for name in weights)
    options = {"seed": 3, "max_tokens": 3, "inference_timesteps": 2}
    (spoken,), (wanted,) = ours.generate("Hi.", **options), original.generate("Hi.", **options)
    assert np.array_equal(np.array(spoken.audio), np.array(wanted.audio))


def test_its_files_are_what_mlx_tools_expect(released, tmp_path):
    target = convert(released.folder, tmp_path / "converted", "bfloat16")
    assert sorted(os.listdir(target)) == [
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    config = json.loads((target / "config.json").read_text())
    assert (config["model_type"], config["architecture"]) == ("voxcpm2", "voxcpm2")
    assert config["dtype"] == "bfloat16"
    _, metadata = mx.load(str(target / "model.safetensors"), return_metadata=True)
    assert metadata["format"] == "mlx"


def test_nothing_is_overwritten(released, tmp_path):
    target = tmp_path / "there"
    target.mkdir()
    with pytest.raises(FileExistsError, match="exists"):
        convert(released.folder, target)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        convert(released.folder, tmp_path / "not" / "there")


def test_the_command_fails_in_one_line(released, tmp_path, capfd):
    arguments = ["--hf_path", str(released.folder), "--mlx-path", str(tmp_path)]
    assert command.main(arguments) == 2
    assert capfd.readouterr().err.count("\n") == 1
