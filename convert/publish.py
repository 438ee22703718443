"""Upload a converted checkpoint with its model card to the Hugging Face hub."""

from __future__ import annotations

import glob
import os
from pathlib import Path

from mlx_voxcpm2.errors import one_line

from .model_card import write_card

# Only these files are uploaded; clips, notes and the like in the same folder are not.
_SUFFIXES = (".json", ".safetensors")
_NAMES = ("README.md", "LICENSE")

# Deleted in the repository: left by an earlier upload, they would be read instead of these.
_WEIGHTS = ["model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json"]


def check_upload(repo_id: str) -> None:
    """Checks, before anything is converted, whether an upload to `repo_id` can succeed.

    Raises ValueError for its name, PermissionError for the token, OSError for the hub. The rights
    of a fine-grained token show only during the upload.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo_id)
        owner, _ = repo_id.split("/")
    except (HFValidationError, ValueError):
        raise ValueError(
            f"--upload_repo is {repo_id!r}; give it as OWNER/NAME, such as you/VoxCPM2-4bit"
        ) from None
    if get_token() is None:
        raise PermissionError(
            f"{repo_id}: no token; run `hf auth login`, or set HF_TOKEN to one that may write"
        )
    try:
        account = HfApi().whoami()
    except Exception as error:  # they have no common base class, see `weights.hub`
        raise _failure(repo_id, error) from None
    role = account.get("auth", {}).get("accessToken", {}).get("role")
    if role == "read":
        raise PermissionError(f"{repo_id}: {_MAY_NOT_WRITE}")
    owners = [account.get("name"), *(owner.get("name") for owner in account.get("orgs") or [])]
    if role == "write" and owner.lower() not in [str(name).lower() for name in owners]:
        raise PermissionError(
            f"{repo_id}: your token belongs to {account.get('name')}, who can't write for {owner}; "
            "check the name, or log in as a member"
        )


def publish(
    folder: str | Path,
    repo_id: str,
    private: bool = False,
    base_model: str | None = None,
    measured: str | Path | None = None,
) -> str:
    """Uploads a converted checkpoint with its model card; returns the address on the hub.

    The repository is created if it does not exist. Called again after an interrupted upload, it
    sends only the rest: chunks of files with hf_xet, which huggingface_hub installs since 0.32,
    else whole files. Weights in the repository that are not in the folder are deleted there.
    private: make the repository private; one that is public already is refused.
    base_model, measured: as in `write_card`.

    Raises ValueError, PermissionError or another OSError with one line that says what to do.
    """
    from huggingface_hub import HfApi

    folder = Path(os.path.expanduser(folder))
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; convert into it first")
    check_upload(repo_id)
    report = None if measured is None else Path(os.path.expanduser(measured))
    write_card(folder, repo_id, base_model, report)
    files = [
        file
        for file in folder.iterdir()
        # Macs put files named ._* beside others on foreign disks.
        if not file.name.startswith(".") and (file.suffix in _SUFFIXES or file.name in _NAMES)
    ]
    hub = HfApi()
    visibility = {"private": True} if private else {}  # else the owner's default
    try:
        address = hub.create_repo(repo_id, exist_ok=True, **visibility)
        is_public = private and not hub.model_info(repo_id).private
        if not is_public:
            hub.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                commit_message="Upload a checkpoint for MLX",
                allow_patterns=[glob.escape(file.name) for file in files],
                delete_patterns=_WEIGHTS,
            )
    except Exception as error:
        raise _failure(repo_id, error) from None
    if is_public:
        raise ValueError(
            f"{repo_id} is public; make it private on its page, or leave out --private"
        )
    return str(address)


_MAY_NOT_WRITE = "your token may not write there; make one that may in the hub's settings"


def _failure(repo_id: str, error: BaseException) -> OSError:
    """The error for a failed upload: one line with the reason and what to do."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    chain = [error]
    while following := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(following)
    if any(isinstance(link, OfflineModeIsEnabled) for link in chain):
        return ConnectionError(f"{repo_id}: HF_HUB_OFFLINE is set; unset it to upload")
    answered = next((link for link in chain if getattr(link, "response", None) is not None), None)
    status = None if answered is None else answered.response.status_code
    if status == 401:
        return PermissionError(
            f"{repo_id}: the hub does not know your token; log in again, or correct HF_TOKEN"
        )
    if status == 403:
        return PermissionError(f"{repo_id}: {_MAY_NOT_WRITE}")
    again = "try again to resume it"
    if status is not None and status >= 500:
        return OSError(f"{repo_id}: the hub answers with status {status}; {again}")
    root = chain[-1]
    if status is None and getattr(root, "errno", None) is not None:
        return ConnectionError(f"{repo_id}: the hub can't be reached ({one_line(root)}); {again}")
    reason = getattr(answered, "server_message", None) or one_line(answered or root)
    return OSError(f"{repo_id}: the upload failed ({' '.join(reason.split())}); {again}")
