"""Local folders of checkpoints, adapters and recognisers, downloaded from the hub if needed."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from ..documents import read_json
from ..errors import one_line
from ..file_names import check_file_name
from ..models.families import all_families, find_family
from ..models.family import Family, architecture_of
from ..settings import similar

_WEIGHT_FILES = (
    "model.safetensors",
    "model-?????-of-?????.safetensors",
    "model.safetensors.index.json",
)
_PACKAGE = Path(__file__).parent.parent
BUILT_IN = {name: _PACKAGE / name for name in ("english", "demo")}
"""Folders of the voices that come with the package; a folder of such a name is ./demo."""

RECOGNISER_FILES = [
    "*.json",
    "*.safetensors",
    "*.npz",
    "*.model",
    "*.tiktoken",
    "*.txt",
    "*.jinja",
    "*.yaml",
]
ADAPTER_FILES = ["lora_weights.safetensors", "lora_weights.ckpt", "lora_config.json"]


def checkpoint_files(family: Family) -> list[str]:
    """Patterns of the files of a family's checkpoints, which are all that is downloaded."""
    parts = [file for files in family.separate_files.values() for file in files]
    return ["config.json", *family.small_files, *_WEIGHT_FILES, *parts]


def all_checkpoint_files() -> set[str]:
    """Patterns of the files of any checkpoint."""
    return {file for family in all_families() for file in checkpoint_files(family)}


def find_checkpoint(path_or_repo: str | Path, revision: str | None = None) -> Path:
    """Folder of a checkpoint: the given one, or the snapshot of a hub repository.

    The configuration is downloaded first, which says the family and so the files; another model is
    refused before gigabytes of it. Of a repository that holds weights twice, only one is taken.
    "english" and "demo" are the small voices of `BUILT_IN`. Raises FileNotFoundError or ValueError.
    """
    if not isinstance(path_or_repo, str | os.PathLike):
        raise TypeError(
            f"the checkpoint is {type(path_or_repo).__name__}; give a folder or a hub repository"
        )
    if path_or_repo == "":  # to Path it would be the folder we are in
        raise ValueError("the checkpoint's name is empty; give a folder or a hub repository")
    if (built_in := BUILT_IN.get(path_or_repo)) is not None:
        if not built_in.is_dir():
            raise FileNotFoundError(
                f"{path_or_repo}: this build has no voice of that name; benchmarks/demo_voice "
                f"makes it, and ./{path_or_repo} is a folder of that name"
            )
        path_or_repo = built_in
    check_file_name(path_or_repo)
    path = Path(os.path.expanduser(path_or_repo))
    if path.is_dir():
        if revision is not None:
            raise ValueError(f"{path} is a folder and has no revision {revision!r}; leave it out")
        return path
    name = str(path_or_repo)
    if path.exists():
        raise ValueError(f"{name} is a file; give the folder of the checkpoint")
    if "/" not in name and (near := similar(name.lower(), BUILT_IN)):
        raise FileNotFoundError(f"{name}: no such folder; did you mean {near}?")
    _check_repository(name)
    return _snapshot(name, revision)


def local_checkpoint(path_or_repo: str, revision: str | None = None) -> Path | None:
    """Folder of a checkpoint that needs no download, or None; never asks the network."""
    from huggingface_hub import try_to_load_from_cache

    if (built_in := BUILT_IN.get(path_or_repo)) is not None:
        return built_in if built_in.is_dir() else None
    path = Path(os.path.expanduser(path_or_repo))
    if path.is_dir() or not _may_be_repository(path_or_repo):
        return path if path.is_dir() else None
    file = try_to_load_from_cache(path_or_repo, "config.json", revision=revision)
    folder = Path(file).parent if isinstance(file, str) else None
    has_weights = folder is not None and any(folder.glob("model*.safetensors"))
    return folder if has_weights else None


def find_adapter(path_or_repo: str | Path) -> Path:
    """Folder or file of an adapter: the given one, or the snapshot of a hub repository."""
    if path_or_repo == "":
        raise ValueError("the adapter's name is empty; give a folder or a hub repository")
    check_file_name(path_or_repo)
    path = Path(os.path.expanduser(path_or_repo))
    if path.exists():
        return path
    _check_repository(str(path_or_repo))
    return _download(str(path_or_repo), None, ADAPTER_FILES)


def find_tokenizer(path_or_repo: str | Path) -> Path:
    """File of a tokenizer: the given one, that of a folder, or that of a hub repository."""
    if path_or_repo == "":
        raise ValueError("the tokenizer's name is empty; give a folder or a hub repository")
    check_file_name(path_or_repo)
    path = Path(os.path.expanduser(path_or_repo))
    if not path.exists():
        _check_repository(str(path_or_repo))
        path = _download(str(path_or_repo), None, ["tokenizer.json", "tokenizer_config.json"])
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"{path}: no tokenizer.json here; give another tokenizer")
    return file


def check_recogniser_name(path_or_repo: str | Path) -> None:
    """Raises ValueError or FileNotFoundError unless this is a folder or may be a repository."""
    check_file_name(path_or_repo)
    path = Path(os.path.expanduser(path_or_repo))
    if path_or_repo == "" or path.is_file():
        raise ValueError(f"{path_or_repo!r} is no recogniser; give its folder or a hub repository")
    if not path.is_dir():
        _check_repository(str(path_or_repo))


def find_recogniser(path_or_repo: str | Path) -> Path:
    """Folder of a recogniser for mlx-audio: the given one, or the snapshot of a hub repository."""
    check_recogniser_name(path_or_repo)
    path = Path(os.path.expanduser(path_or_repo))
    return path if path.is_dir() else _download(str(path_or_repo), None, RECOGNISER_FILES)


def recogniser_config(path_or_repo: str | Path) -> Any:
    """Value of a recogniser's config.json, which is downloaded if needed; None if it has none.

    Raises what `find_recogniser` raises, and ValueError if it is no JSON.
    """
    check_recogniser_name(path_or_repo)
    folder = Path(os.path.expanduser(path_or_repo))
    if not folder.is_dir():
        folder = _download(str(path_or_repo), None, ["config.json"])
    file = folder / "config.json"
    return read_json(file, "download the file again") if file.is_file() else None


def _check_repository(name: str) -> None:
    """Raises FileNotFoundError if the name, which is no local path, can't be a repository's."""
    if not _may_be_repository(name):
        raise FileNotFoundError(f"{name}: no such folder; check the path")


def _may_be_repository(name: str) -> bool:
    return not name.startswith((".", "~", "/")) and name.count("/") == 1


def _snapshot(repo: str, revision: str | None) -> Path:
    family = _family(repo, _download(repo, revision, ["config.json"]) / "config.json")
    folder = _download(repo, revision, checkpoint_files(family))
    for file in ("config.json", family.required_file):
        if not (folder / file).is_file():  # offline, an incomplete snapshot is returned
            raise FileNotFoundError(
                f"{repo}: no {file} in {folder}; if it is a checkpoint, connect and run again"
            )
    if not any(folder.glob("model*.safetensors")):  # the same weights, if both exist
        _download(repo, revision, ["pytorch_model.bin"])
    return folder


def _family(repo: str, config: Path) -> Family:
    """Family of a repository by its config.json.

    Raises ValueError for an unknown one, and for VoxCPM 1.x, which names none or its own.
    """
    data = read_json(config, "download the file again") if config.is_file() else {}
    if not isinstance(data, dict):
        raise ValueError(f"{repo}: config.json: expected an object; is this the right model?")
    if architecture_of(data).lower() == "voxcpm" and config.is_file():
        raise ValueError(
            f"{repo}: this is a VoxCPM 1.x checkpoint; take a VoxCPM2 one, such as openbmb/VoxCPM2"
        )
    return find_family(data)


def _download(repo: str, revision: str | None, files: list[str]) -> Path:
    from huggingface_hub import snapshot_download

    def download() -> Path:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=files))

    try:
        return _interruptible(download)
    except Exception as error:  # of httpx, requests, Xet …: no common base class
        if not _is_answer(error) and (cached := _cached(repo, revision, files)) is not None:
            return cached
        raise FileNotFoundError(f"{repo}: {_why_not(error, revision)}") from None


def _is_answer(error: Exception) -> bool:
    """Whether the hub itself refused, or the cache was asked already."""
    from huggingface_hub import errors as hub

    answers = hub.HfHubHTTPError, hub.HFValidationError, hub.LocalEntryNotFoundError
    return isinstance(error, answers)


def _cached(repo: str, revision: str | None, files: list[str]) -> Path | None:
    """Snapshot in the cache, for when the hub can't be asked: a proxy that needs a library, …"""
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(repo, revision=revision, allow_patterns=files, local_files_only=True)
        )
    except Exception:
        return None


def _interruptible(work: Callable[[], Path]) -> Path:
    """Runs `work` in a thread, since `snapshot_download` finishes its files when interrupted."""
    future: Future[Path] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future.result()


def _why_not(error: Exception, revision: str | None) -> str:
    """Reason why a download failed and what to do, in one line."""
    from huggingface_hub import errors as hub

    cause = error.__cause__ or error
    status = getattr(getattr(cause, "response", None), "status_code", None)
    if isinstance(error, hub.GatedRepoError):
        return "the hub wants you to accept its licence; do so on its page, then log in"
    if isinstance(error, hub.RepositoryNotFoundError):
        return "neither a folder here nor a repository on the hub; check the name, or log in"
    if isinstance(error, hub.RevisionNotFoundError):
        return f"the repository has no revision {revision!r}; check the name"
    if isinstance(error, hub.HFValidationError):
        return "neither a folder here nor a repository's name; check it"
    if status == 401:
        return "the hub does not know your token; log in again, or correct HF_TOKEN"
    if isinstance(cause, json.JSONDecodeError):
        from huggingface_hub import constants

        return f"what answers at {constants.ENDPOINT} is no hub; check HF_ENDPOINT and the network"
    if "socks" in str(cause).lower():
        return "the proxy speaks SOCKS; install httpx[socks], or unset ALL_PROXY"
    if not isinstance(error, hub.LocalEntryNotFoundError):
        reason = f"{type(error).__name__}: {one_line(error)}"
        return f"the download failed ({reason}); run again to resume it"
    partly = isinstance(error, getattr(hub, "IncompleteSnapshotError", ()))
    found = "only a part is in the cache" if partly else "no such folder here, not in the cache"
    if isinstance(cause, hub.OfflineModeIsEnabled):
        return f"{found}; connect and unset HF_HUB_OFFLINE to download it"
    if status:
        return f"{found}, and the hub answers with status {status}; try again later"
    return f"{found}, and the hub can't be reached ({one_line(cause)}); check the connection"
