"""Models load from the hub by name, and failures are one-line errors."""

import contextlib
import fcntl
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pytest
from conftest import relative_error
from hub_client import hub_client
from hub_stand_in import MEMBER, STRANGER, Cut, Hub
from huggingface_hub import hf_hub_download
from safetensors.numpy import load_file, save_file
from torch_files import save_state_dict

from mlx_voxcpm2 import load_model

NEEDED = [
    "audiovae.safetensors",
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
]
OTHERS = [
    ".gitattributes",
    "README.md",
    "assets/x.wav",
    "audiovae.onnx",
    "lora/lora.safetensors",
    "model_lora/weights.safetensors",
    "optimizer.pt",
    "pytorch_model.bin",
    "special_tokens_map.json",
]
NAME = "org/voice"
SPEAK = {"seed": 0, "min_tokens": 2, "max_tokens": 2, "inference_timesteps": 2}
CHILD = f"""
import json
from mlx_voxcpm2 import load_model
(result,) = load_model({NAME!r}, dtype="float32").generate("Hi.", **{SPEAK})
print(json.dumps(result.audio.tolist()))
"""


@pytest.fixture
def repository_folder(checkpoint_copy) -> Path:
    """Folder of a repository: a checkpoint, and files that generation does not need."""
    for name in OTHERS:
        (checkpoint_copy / name).parent.mkdir(exist_ok=True)
        (checkpoint_copy / name).write_text(f"of no use: {name}")
    return checkpoint_copy


@pytest.fixture
def model_hub(repository_folder):
    with Hub() as hub:
        hub.add(NAME, repository_folder)
        yield hub


@pytest.fixture
def hub_environment(model_hub, tmp_path) -> dict[str, str]:
    return model_hub.environment(tmp_path / "cache")


@pytest.fixture
def load(hub_environment):
    """Function that loads a model by its name and returns its audio or the error's line.

    settings: environment variables of the hub's client, beside those of the stand-in.
    """

    def load(name: str = NAME, revision: str | None = None, **settings: str) -> np.ndarray | str:
        with hub_client(hub_environment | settings):
            try:
                return speech(name, revision)
            except (FileNotFoundError, ValueError) as error:
                return str(error)

    return load


def speech(path_or_repo: Path | str, revision: str | None = None) -> np.ndarray:
    model = load_model(path_or_repo, dtype="float32", revision=revision)
    (result,) = model.generate("Hi.", **SPEAK)
    return np.array(result.audio)


def same(ours: np.ndarray | str, theirs: np.ndarray) -> bool:
    assert not isinstance(ours, str), ours
    return relative_error(ours, theirs) < 1e-3  # another process may multiply in another order


def test_a_model_loads_by_its_name_and_speaks(
    model_hub, load, hub_environment, repository_folder, tmp_path
):
    """In a new process; the next load downloads nothing, and offline there are no requests."""
    spoken = speech(repository_folder)
    child = [sys.executable, "-c", CHILD]
    said = subprocess.check_output(child, cwd=tmp_path, env=hub_environment)
    assert same(np.array(json.loads(said)), spoken)
    assert model_hub.fetched() == NEEDED
    model_hub.requests.clear()
    assert same(load(), spoken)
    assert model_hub.requests and model_hub.fetched() == []
    model_hub.requests.clear()
    assert same(load(HF_HUB_OFFLINE="1"), spoken)
    assert model_hub.requests == []
    assert same(load(HF_ENDPOINT="http://127.0.0.1:9"), spoken)


def test_pickled_weights_are_downloaded_if_there_are_no_others(model_hub, load, repository_folder):
    spoken = speech(repository_folder)
    for name, pickled in (("model", "pytorch_model.bin"), ("audiovae", "audiovae.pth")):
        file = repository_folder / f"{name}.safetensors"
        save_state_dict(repository_folder / pickled, load_file(file))
        file.unlink()
    assert same(load(), spoken)
    assert {"audiovae.pth", "pytorch_model.bin"} < {*model_hub.fetched()}
    assert len(model_hub.fetched()) == len(NEEDED)
    assert same(load(HF_HUB_OFFLINE="1"), spoken)


def test_shards_are_downloaded(model_hub, load, repository_folder):
    spoken, whole = speech(repository_folder), repository_folder / "model.safetensors"
    contents, weight_map = load_file(whole), {}
    for number in (1, 2):
        part = {name: contents[name] for name in sorted(contents)[number - 1 :: 2]}
        save_file(part, repository_folder / f"model-0000{number}-of-00002.safetensors")
        weight_map |= dict.fromkeys(part, f"model-0000{number}-of-00002.safetensors")
    whole.unlink()
    (repository_folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": weight_map})
    )
    assert same(load(), spoken)
    fetched = model_hub.fetched()
    assert len(fetched) == len(NEEDED) + 2 and "pytorch_model.bin" not in fetched


def test_the_revision_is_loaded(model_hub, load, repository_folder, tmp_path):
    newer = Path(shutil.copytree(repository_folder, tmp_path / "newer"))
    weights = load_file(newer / "model.safetensors")
    weights["feat_decoder.estimator.out_proj.weight"] *= -1
    save_file(weights, newer / "model.safetensors", metadata={"format": "pt"})
    commit = model_hub.add(NAME, newer, branch="v2").branches["v2"]
    old, new = speech(repository_folder), speech(newer)
    assert not same(old, new)
    assert same(load(revision="v2"), new)
    assert same(load(), old)
    assert same(load(revision=commit, HF_HUB_OFFLINE="1"), new)


def test_the_token_opens_gated_models_and_is_sent_with_every_request(
    model_hub, load, repository_folder
):
    model_hub.repositories[NAME].gated = True
    assert same(load(HF_TOKEN=MEMBER), speech(repository_folder))
    asked = [request for request in model_hub.requests if NAME in request.path]
    assert {request.headers.get("authorization") for request in asked} == {f"Bearer {MEMBER}"}


def test_a_proxy_is_used(model_hub, load, repository_folder):
    """The stand-in is the proxy, since no other machine could resolve that host."""
    settings = {"HF_ENDPOINT": "http://hub.invalid", "HTTP_PROXY": model_hub.url, "NO_PROXY": ""}
    assert same(load(**settings), speech(repository_folder))
    assert {request.headers["host"] for request in model_hub.requests} == {"hub.invalid"}


WRONG = {
    "the usual settings": (
        {},
        ("org/missing",),
        "neither a folder here nor a repository on",
        (NAME, "v9"),
        "has no revision 'v9'",
        ("a b/c",),
        "neither a folder here nor a repository's name",
        ("org/gated",),
        "accept its licence",
        ("org/broken",),
        "answers with status 500; try again later",
        ("org/data",),
        r"no config\.json in .*; if it is a checkpoint",
    ),
    "the token of a stranger": (
        {"HF_TOKEN": STRANGER},
        ("org/missing",),
        "or log in",
        ("org/gated",),
        "accept its licence",
    ),
    "an unknown token": (
        {"HF_TOKEN": "hf_old"},
        (NAME,),
        "does not know your token; .*HF_TOKEN",
    ),
    "no connection": (
        {"HF_ENDPOINT": "http://127.0.0.1:9"},
        (NAME,),
        "can't be reached .*the connection",
    ),
    "no address": (
        {"HF_ENDPOINT": "127.0.0.1:9"},
        (NAME,),
        "the download failed",
    ),
    "nothing cached": (
        {"HF_HUB_OFFLINE": "1"},
        (NAME,),
        "not in the cache; connect and unset HF_HUB_OFFL",
    ),
}
"""Settings, then models that are loaded, each with its error's line."""


@pytest.mark.parametrize("what", WRONG)
def test_failures_are_one_line_errors_without_delay(what, model_hub, load, repository_folder):
    model_hub.add("org/gated", repository_folder, gated=True)
    model_hub.add("org/broken", repository_folder, answer=500)
    model_hub.add("org/data", repository_folder / "assets")
    settings, *cases = WRONG[what]
    models, lines = cases[::2], cases[1::2]
    for model, line in zip(models, lines, strict=True):
        said = load(*model, **settings)
        assert isinstance(said, str) and "\n" not in said
        assert said.startswith(f"{model[0]}: ")
        assert re.search(line, said), said


def test_the_command_reports_failures_in_one_line(hub_environment, tmp_path):
    words = ["--model", "org/missing", "--text", "Hi."]
    command = [sys.executable, "-m", "mlx_voxcpm2.generate", *words]
    place = {"cwd": tmp_path, "env": hub_environment}
    done = subprocess.run(command, capture_output=True, text=True, **place)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "org/missing: neither a folder" in done.stderr


def test_an_interrupted_download_is_resumed(model_hub, load, repository_folder):
    """The client continues at once or in the next run, depending on its version."""
    spoken, whole = speech(repository_folder), repository_folder / "model.safetensors"
    long = {"format": "pt", "filler": "x" * 30_000_000}  # the client writes 10 MB at a time
    save_file(load_file(whole), whole, metadata=long)
    model_hub.cuts["model.safetensors"] = Cut(times=1)
    said = load()
    if isinstance(said, str):
        assert "the download failed" in said and "run again" in said and "\n" not in said
        said = load()
    assert same(said, spoken)
    first, second = model_hub.ranges("model.safetensors")
    assert first is None and int(second.removeprefix("bytes=").rstrip("-")) >= 10 * 2**20
    fetched = model_hub.fetched()
    assert sorted(set(fetched)) == NEEDED and len(fetched) == len(NEEDED) + 1


def test_a_failed_download_is_a_one_line_error_and_can_be_repeated(
    model_hub, load, repository_folder
):
    model_hub.cuts["audiovae.safetensors"] = Cut(times=10, reset=True)
    said = load()
    assert isinstance(said, str) and said.startswith("org/voice: the download failed (")
    assert said.endswith("; run again to resume it") and "\n" not in said
    said = load(HF_HUB_OFFLINE="1")
    assert re.search("only a part is in the cache; connect|download the whole checkpoint$", said)
    model_hub.cuts.clear()
    model_hub.requests.clear()
    assert same(load(), speech(repository_folder))
    assert "audiovae.safetensors" in model_hub.fetched() and len(model_hub.fetched()) < len(NEEDED)


def test_a_single_cached_file_is_no_checkpoint(model_hub, load, hub_environment):
    with hub_client(hub_environment):
        hf_hub_download(NAME, "config.json")
    said = load(HF_HUB_OFFLINE="1")
    assert re.search(r"^org/voice: no tokenizer\.json in .*, connect and run again$", said)


def test_a_download_shows_its_progress_on_the_terminal(hub_environment, tmp_path):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))
    command = [sys.executable, "-c", CHILD]
    with subprocess.Popen(command, env=hub_environment, stdout=subprocess.DEVNULL, stderr=theirs):
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # Linux's sign of the end
            while part := os.read(ours, 4096):
                shown += part
    os.close(ours)
    assert b"Fetching 5 files: 100%" in shown and re.search(rb"1\.\d+M", shown)


def test_an_old_model_is_refused_after_its_configuration(model_hub, load, repository_folder):
    config = json.loads((repository_folder / "config.json").read_text())
    config.pop("architecture", None), config.pop("model_type", None)
    (repository_folder / "config.json").write_text(json.dumps(config | {"architecture": "voxcpm"}))
    assert "this is a VoxCPM 1.x checkpoint" in load()
    assert set(model_hub.fetched()) == {"config.json"}


def test_a_proxy_that_can_t_be_used_leaves_the_cache(load, hub_environment, repository_folder):
    assert same(load(), speech(repository_folder))
    hub_environment |= {"ALL_PROXY": "socks5://127.0.0.1:9", "NO_PROXY": ""}
    assert same(load(), speech(repository_folder))
    hub_environment["HF_HUB_OFFLINE"] = "1"
    assert same(load(), speech(repository_folder))
    del hub_environment["HF_HUB_OFFLINE"]
    assert "httpx[socks]" in load("org/another")
