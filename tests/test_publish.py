"""Converted checkpoints are uploaded by one command, which can be repeated until it succeeds."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from hub_client import hub_client
from hub_stand_in import MEMBER, Cut
from hub_uploads import FINE, READER, WRITER

from mlx_voxcpm2 import load_model
from mlx_voxcpm2.convert import __main__ as convert_command
from mlx_voxcpm2.convert.publish import check_upload

NAME = "you/VoxCPM2-bf16"
FILES = ["README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
COMMIT = f"/api/models/{NAME}/commit/main"


@pytest.fixture
def owned_checkpoint(converted_copy) -> Path:
    """A converted checkpoint, and private files of its owner."""
    (converted_copy / "my-voice.wav").write_bytes(b"RIFF")
    (converted_copy / ".git").mkdir()
    (converted_copy / ".git" / "config.json").write_text("{}")
    return converted_copy


@pytest.fixture
def environment(hub, tmp_path) -> dict[str, str]:
    """Environment variables of the hub's client, with the token of a writer."""
    return hub.environment(tmp_path / "home") | {"HF_TOKEN": WRITER}


@pytest.fixture
def words(owned_checkpoint) -> list[str]:
    """Arguments of the command."""
    return ["--mlx_path", str(owned_checkpoint), "--upload_repo", NAME]


@pytest.fixture
def try_upload(environment, words, run_command):
    """Function that runs the command: its exit status and all that it says.

    settings: environment variables of the hub's client, beside those of the stand-in.
    """

    def run(*flags: str, **settings: str) -> tuple[int, str]:
        with hub_client(environment | settings):
            status, _, said = run_command(convert_command.main, *words, *flags)
        return status, said

    return run


@pytest.fixture
def upload(try_upload):
    """Function that runs the command: its exit status and its last line."""

    def run(*flags: str, **settings: str) -> tuple[int, str]:
        status, said = try_upload(*flags, **settings)
        return status, said.strip().splitlines()[-1]

    return run


def speak(name: str | Path) -> np.ndarray:
    settings = {"seed": 0, "max_tokens": 2, "inference_timesteps": 2}
    return np.array(load_model(name).speak("Hi.", **settings).audio)


def oid(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def in_shards(folder: Path) -> None:
    """Split the folder's weights into two files and an index."""
    weights, metadata = mx.load(str(folder / "model.safetensors"), return_metadata=True)
    (folder / "model.safetensors").unlink()
    shard_of = {name: SHARDS[name.startswith("audio_vae.")] for name in weights}
    for shard in SHARDS:
        part = {name: weights[name] for name in weights if shard_of[name] == shard}
        mx.save_safetensors(str(folder / shard), part, metadata=metadata)
    index = {"metadata": {}, "weight_map": shard_of}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_an_upload_is_the_checkpoint_and_its_card(hub, upload, owned_checkpoint):
    """Repeating it changes no file."""
    status, said = upload()
    assert (status, said) == (0, f"{hub.url}/{NAME}")
    assert sorted(hub.published(NAME)) == FILES
    for name, data in hub.published(NAME).items():
        assert data == (owned_checkpoint / name).read_bytes(), name
    assert not hub.repositories[NAME].private
    before = hub.repositories[NAME].now
    hub.storage.arrived.clear()
    assert upload()[0] == 0
    assert (hub.repositories[NAME].now, hub.storage.arrived) == (before, [])


def test_an_uploaded_checkpoint_speaks_from_the_hub(
    environment, upload, owned_checkpoint, tmp_path
):
    assert upload("--private")[0] == 0
    with hub_client(environment | {"HF_HOME": str(tmp_path / "other")}):
        assert np.array_equal(speak(NAME), speak(owned_checkpoint))
    stranger = environment | {"HF_TOKEN": MEMBER, "HF_HOME": str(tmp_path / "third")}
    with (
        hub_client(stranger),
        pytest.raises(FileNotFoundError, match="neither a folder here nor a repository"),
    ):
        speak(NAME)


def test_an_interrupted_upload_is_resumed(hub, environment, words, upload, owned_checkpoint):
    """The client retries for a while; here its process ends meanwhile."""
    in_shards(owned_checkpoint)
    first, second = (oid(owned_checkpoint / name) for name in SHARDS)
    for target in (f"/storage/{second}", f"/storage/{second}/1"):
        hub.cuts[target] = Cut(times=1000)
    command = [sys.executable, "-m", "mlx_voxcpm2.convert", *words]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    limit = time.monotonic() + 30
    while first not in hub.storage.contents or all(cut.times == 1000 for cut in hub.cuts.values()):
        assert time.monotonic() < limit and process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert hub.published(NAME) == {}

    hub.cuts.clear()
    hub.storage.arrived.clear()
    assert upload()[0] == 0
    assert set(hub.storage.arrived) == {second}
    assert all(
        data == (owned_checkpoint / name).read_bytes() for name, data in hub.published(NAME).items()
    )
    assert set(SHARDS) < set(hub.published(NAME))


def test_an_interrupted_commit_is_made_by_the_next_run(hub, upload, owned_checkpoint):
    hub.cuts[COMMIT] = Cut(times=1000)
    status, said = upload()
    assert status == 2 and re.search(r"; try again to resume it$", said)
    hub.cuts.clear()
    hub.storage.arrived.clear()
    assert upload()[0] == 0
    assert hub.storage.arrived == [] and sorted(hub.published(NAME)) == FILES


def test_weights_of_an_earlier_upload_are_deleted(hub, upload, owned_checkpoint):
    """An index that names old shards would be read before the new file."""
    whole = (owned_checkpoint / "model.safetensors").read_bytes()
    in_shards(owned_checkpoint)
    assert upload()[0] == 0
    for name in (*SHARDS, "model.safetensors.index.json"):
        (owned_checkpoint / name).unlink()
    (owned_checkpoint / "model.safetensors").write_bytes(whole)
    (hub.repositories[NAME].now / "sample.mp3").write_text("of the repository's owner")
    assert upload()[0] == 0
    assert sorted(hub.published(NAME)) == [*FILES[:3], "sample.mp3", *FILES[3:]]


def test_a_private_repository_stays_private_and_a_public_one_is_refused(hub, upload):
    assert upload("--private")[0] == 0
    assert hub.repositories[NAME].private
    assert upload()[0] == 0
    assert hub.repositories[NAME].private
    hub.repositories[NAME].private = False
    before = hub.repositories[NAME].now
    status, said = upload("--private")
    assert status == 2 and "is public; make it private" in said
    assert hub.repositories[NAME].now == before


WRONG = {
    "no token": ({"HF_TOKEN": ""}, "no token; run `hf auth login`, or set HF_TOKEN"),
    "an unknown token": ({"HF_TOKEN": "hf_old"}, "does not know your token; log in again"),
    "a reader's token": ({"HF_TOKEN": READER}, "your token may not write there"),
    "a fine-grained token without the right": (
        {"HF_TOKEN": FINE},
        "your token may not write there",
    ),
    "no connection": ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "can't be reached .*refused"),
    "offline": ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set; unset it"),
}


@pytest.mark.parametrize("what", WRONG)
def test_failures_are_one_line_errors(what, hub, try_upload):
    settings, line = WRONG[what]
    status, said = try_upload(**settings)
    assert (status, said.count("\n")) == (2, 1), said
    assert re.search(line, said), said
    assert hub.repositories == {}


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("else/voice", "belongs to you, who can't write for else"),
        ("voice", "give it as OWNER/NAME"),
    ],
)
def test_a_name_that_cannot_be_written_to_is_a_one_line_error(name, line, hub, try_upload):
    status, said = try_upload("--upload_repo", name)
    assert (status, said.count("\n")) == (2, 1), said
    assert line in said and hub.repositories == {}


@pytest.mark.parametrize(
    "name", ["", "voice", "a/b/c", "a b/c", "you/", "/x", "you/x--y", "https://hub.test/you/x"]
)
def test_an_invalid_repository_name_is_refused(name):
    with pytest.raises(ValueError, match="give it as OWNER/NAME"):
        check_upload(name)


@pytest.mark.parametrize("path", ["/api/whoami-v2", "/api/repos/create", COMMIT])
def test_a_server_error_of_the_hub_is_a_one_line_error(path, hub, upload):
    hub.statuses[path] = 500
    status, said = upload()
    assert status == 2 and said.endswith(
        f"{NAME}: the hub answers with status 500; try again to resume it"
    )


def test_a_refusal_is_reported_in_the_hubs_words(hub, upload):
    hub.statuses[COMMIT] = 413
    status, said = upload()
    assert status == 2 and f"{NAME}: the upload failed (Out of order); try again" in said


def test_a_token_without_write_access_is_a_one_line_error(hub, upload, owned_checkpoint):
    """The repository exists, so that only the upload itself can fail."""
    assert upload()[0] == 0
    before = hub.repositories[NAME].now
    (owned_checkpoint / "config.json").write_text(
        (owned_checkpoint / "config.json").read_text() + "\n"
    )
    status, said = upload(HF_TOKEN=FINE)
    assert status == 2 and "your token may not write there" in said
    assert hub.repositories[NAME].now == before


def test_only_converted_checkpoints_are_uploaded(hub, upload, make_case, owned_checkpoint):
    def refused(line: str) -> None:
        status, said = upload()
        assert status == 2 and line in said

    (owned_checkpoint / "model.safetensors").write_bytes(
        (owned_checkpoint / "model.safetensors").read_bytes()[:-1]
    )
    refused("damaged or incomplete")
    shutil.rmtree(owned_checkpoint)
    refused("no such folder; convert")
    shutil.copytree(make_case("mup").folder, owned_checkpoint)
    refused("is not converted yet")
    assert hub.repositories == {}
