"""Quantised repositories by name, mirrors and revisions."""

import json
import shutil

import mlx.core as mx
import pytest
from conftest import parameters, same
from hub_client import hub_client
from hub_stand_in import Hub
from huggingface_hub import constants

from mlx_voxcpm2 import load_model
from mlx_voxcpm2.convert import convert
from mlx_voxcpm2.weights.hub import find_checkpoint, local_checkpoint

NAME = "mlx-community/VoxCPM2-8bit"


@pytest.fixture(scope="module")
def quantised(exchange, tmp_path_factory):
    """What a repository of mlx-community holds: only the scales tell which layers are quantised."""
    folder = convert(exchange, tmp_path_factory.mktemp("hub") / "8bit", quantize="8bit")
    file = folder / "config.json"
    config = json.loads(file.read_text())
    for entry in ("quantization", "quantization_config"):
        config[entry] = {
            key: value for key, value in config[entry].items() if not isinstance(value, dict | bool)
        }
    file.write_text(json.dumps(config))
    (folder / "README.md").write_text("---\nlibrary_name: mlx-audio\n---\n")
    (folder / "model.safetensors.index.json").unlink(missing_ok=True)
    return folder


@pytest.fixture
def mirror(quantised, tmp_path):
    """A hub under a path of another server, whose files lie on a third one."""
    with Hub(prefix="/mirrors/hf", is_redirecting=True) as hub:
        hub.add(NAME, quantised)
        environment = hub.environment(tmp_path / "cache")
        with hub_client(environment | {"HF_ENDPOINT": f"{hub.url}/mirrors/hf"}):
            yield hub


def test_a_quantised_repository_is_loaded_by_its_name_from_a_mirror(mirror, quantised):
    loaded = parameters(load_model(NAME))
    assert any(name.endswith(".scales") for name in loaded)
    assert same(loaded, parameters(load_model(quantised)))
    assert set(mirror.fetched()) == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert all(request.path.startswith(("/mirrors/hf/", "/files/")) for request in mirror.requests)
    mirror.requests.clear()
    folder = local_checkpoint(NAME)
    assert folder is not None and find_checkpoint(NAME) == folder
    assert mirror.fetched() == []


def test_a_revision_of_a_quantised_repository_is_loaded(mirror, quantised, tmp_path):
    newer = shutil.copytree(quantised, tmp_path / "newer")
    weights = mx.load(str(newer / "model.safetensors"))
    scales = next(name for name in sorted(weights) if name.endswith(".scales"))
    mx.eval(weights)
    changed = weights | {scales: weights[scales] * 2}
    mx.save_safetensors(str(newer / "model.safetensors"), changed, metadata={"format": "mlx"})
    mirror.add(NAME, newer, branch="v2")
    assert not same(parameters(load_model(NAME, revision="v2")), parameters(load_model(NAME)))
    with pytest.raises(FileNotFoundError, match="has no revision 'v9'; check the name"):
        find_checkpoint(NAME, "v9")


def test_a_mirror_that_is_no_hub_is_named(mirror, monkeypatch):
    """Such as a page that wants a login first."""
    monkeypatch.setattr(constants, "ENDPOINT", f"{mirror.url}/elsewhere")
    with pytest.raises(FileNotFoundError) as caught:
        find_checkpoint(NAME)
    wanted = f"{NAME}: what answers at {mirror.url}/elsewhere is no hub; check HF_ENDPOINT"
    assert str(caught.value).startswith(wanted)
