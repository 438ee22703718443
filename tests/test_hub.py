"""Models load from the hub by their names; what goes wrong there is one line.

The hub's client reads its settings when it is imported, so each load is a process of its own.
"""

import json
import os
import pty
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import relative_error
from hub_stand_in import MEMBER, STRANGER, Cut, Hub
from safetensors.numpy import load_file, save_file
from torch_files import save_state_dict

from mlx_voxcpm2 import load_model

NEEDED = [
    "audiovae.safetensors", "config.json", "model.safetensors", "tokenizer.json",
    "tokenizer_config.json",
]  # fmt: skip
OTHERS = [
    ".gitattributes", "README.md", "assets/x.wav", "audiovae.onnx", "lora/lora.safetensors",
    "model_lora/weights.safetensors", "optimizer.pt", "pytorch_model.bin",
    "special_tokens_map.json",
]  # fmt: skip
NAME = "org/voice"
SPEAK = {"seed": 0, "min_tokens": 2, "max_tokens": 2, "inference_timesteps": 2}
CHILD = f"""
import json, sys
from mlx_voxcpm2 import load_model
try:
    model = load_model(**json.loads(sys.argv[1]), dtype="float32")
    (result,) = model.generate("Hi.", **{SPEAK})
    print(json.dumps(result.audio.tolist()))
except FileNotFoundError as error:
    print(json.dumps(str(error)))
"""


@pytest.fixture
def folder(make_case, tmp_path) -> Path:
    """What a repository holds: a checkpoint, and files that are of no use for speaking."""
    folder = Path(shutil.copytree(make_case("mup").folder, tmp_path / "repository"))
    for name in OTHERS:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(f"of no use: {name}")
    return folder


@pytest.fixture
def hub(folder):
    with Hub() as hub:
        hub.add(NAME, folder)
        yield hub


@pytest.fixture
def environment(hub, tmp_path) -> dict[str, str]:
    """An empty cache and the stand-in instead of the hub, over plain HTTP as without hf_xet."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HF_", "HUGGING", "TRANSFORMERS_", "XDG_"))
        and not name.lower().endswith("_proxy")
    }
    settings = {"HF_HOME": str(tmp_path / "cache"), "HF_ENDPOINT": hub.url}
    return ours | settings | {"HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}


@pytest.fixture
def load(environment, tmp_path):
    """Loads a model in a process of its own: what it spoke, or the line of its error."""

    def load(name: str = NAME, revision: str | None = None, **settings: str) -> np.ndarray | str:
        arguments = json.dumps({"path_or_repo": name, "revision": revision})
        done = subprocess.run(
            [sys.executable, "-c", CHILD, arguments], cwd=tmp_path, env=environment | settings,
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        return said if isinstance(said, str) else np.array(said)

    return load


def speech(folder: Path) -> np.ndarray:
    (result,) = load_model(folder, dtype="float32").generate("Hi.", **SPEAK)
    return np.array(result.audio)


def same(ours: np.ndarray | str, theirs: np.ndarray) -> bool:
    assert not isinstance(ours, str), ours
    return relative_error(ours, theirs) < 1e-3  # another process may multiply in another order


def test_a_model_loads_by_its_name_and_speaks(hub, load, folder):
    """The second time nothing is downloaded, and offline nothing is asked."""
    spoken = speech(folder)
    assert same(load(), spoken)
    assert hub.fetched() == NEEDED
    hub.requests.clear()
    assert same(load(), spoken)
    assert hub.requests and hub.fetched() == []
    hub.requests.clear()
    assert same(load(HF_HUB_OFFLINE="1"), spoken)
    assert hub.requests == []
    assert same(load(HF_ENDPOINT="http://127.0.0.1:9"), spoken)


def test_pickled_weights_are_fetched_where_there_are_no_others(hub, load, folder):
    spoken = speech(folder)
    for name, pickled in (("model", "pytorch_model.bin"), ("audiovae", "audiovae.pth")):
        file = folder / f"{name}.safetensors"
        save_state_dict(folder / pickled, load_file(file))
        file.unlink()
    assert same(load(), spoken)
    fetched = {"audiovae.pth", "pytorch_model.bin", *NEEDED} & {*os.listdir(folder)}
    assert hub.fetched() == sorted(fetched)
    assert same(load(HF_HUB_OFFLINE="1"), spoken)


def test_shards_are_fetched(hub, load, folder):
    spoken, whole = speech(folder), folder / "model.safetensors"
    contents, weight_map = load_file(whole), {}
    for number, names in enumerate((sorted(contents)[::2], sorted(contents)[1::2]), start=1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_file({name: contents[name] for name in names}, folder / file)
        weight_map |= dict.fromkeys(names, file)
    whole.unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert same(load(), spoken)
    assert len(hub.fetched()) == len(NEEDED) + 2 and "pytorch_model.bin" not in hub.fetched()


def test_the_revision_is_loaded(hub, load, folder, tmp_path):
    newer = Path(shutil.copytree(folder, tmp_path / "newer"))
    weights = load_file(newer / "model.safetensors")
    weights["feat_decoder.estimator.out_proj.weight"] *= -1
    save_file(weights, newer / "model.safetensors", metadata={"format": "pt"})
    commit = hub.add(NAME, newer, branch="v2").branches["v2"]
    old, new = speech(folder), speech(newer)
    assert not same(old, new)
    assert same(load(revision="v2"), new)
    assert same(load(), old)
    assert same(load(revision=commit, HF_HUB_OFFLINE="1"), new)


def test_the_token_opens_what_is_gated_and_is_sent_with_every_request(hub, load, folder):
    hub.repositories[NAME].gated = True
    assert same(load(HF_TOKEN=MEMBER), speech(folder))
    asked = [request for request in hub.requests if NAME in request.path]
    assert {request.headers.get("authorization") for request in asked} == {f"Bearer {MEMBER}"}


def test_a_proxy_is_used(hub, load, folder):
    """The stand-in as a proxy: no other could find that host."""
    settings = {"HF_ENDPOINT": "http://hub.invalid", "HTTP_PROXY": hub.url, "NO_PROXY": ""}
    assert same(load(**settings), speech(folder))
    assert {request.headers["host"] for request in hub.requests} == {"hub.invalid"}


WRONG = {
    "an unknown repository": ({"name": "org/missing"}, "neither a folder here nor a repository on"),
    "an unknown revision": ({"revision": "v9"}, "has no revision 'v9'"),
    "no repository's name": ({"name": "a b/c"}, "neither a folder here nor a repository's name"),
    "a private one": ({"name": "org/missing", "HF_TOKEN": STRANGER}, "or log in"),
    "a gated one": ({"name": "org/gated"}, "accept its licence"),
    "not accepted": ({"name": "org/gated", "HF_TOKEN": STRANGER}, "accept its licence"),
    "an unknown token": ({"HF_TOKEN": "hf_old"}, "does not know your token; .*HF_TOKEN"),
    "a hub out of order": ({"name": "org/broken"}, "answers with status 500; try again later"),
    "no checkpoint": ({"name": "org/data"}, r"no config\.json in .*no VoxCPM2 checkpoint"),
    "no connection": ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "can't be reached .*the connection"),
    "no address": ({"HF_ENDPOINT": "127.0.0.1:9"}, "the download failed"),
    "nothing cached": ({"HF_HUB_OFFLINE": "1"}, "not in the cache; connect and unset HF_HUB_OFFL"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_goes_wrong_is_one_line_and_soon_said(what, hub, load, folder, tmp_path):
    hub.add("org/gated", folder, gated=True)
    hub.add("org/broken", folder, answer=500)
    hub.add("org/data", folder / "assets")
    arguments, line = WRONG[what]
    begin = time.monotonic()
    said = load(**arguments)
    assert time.monotonic() - begin < 10
    assert isinstance(said, str) and "\n" not in said
    assert said.startswith(arguments.get("name", NAME) + ": ")
    assert re.search(line, said), said


def test_the_command_says_it_in_one_line_too(environment, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mlx_voxcpm2.generate", "--model", "org/missing", "--text", "Hi."],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "org/missing: neither a folder" in done.stderr
