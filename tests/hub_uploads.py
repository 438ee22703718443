"""The API that `create_repo` and `upload_folder` call, for the hub's stand-in.

Large files go to `/storage` by the protocol of Git LFS, in one part or several, and a commit names
them by their SHA-256. Small files are part of the commit.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from hub_stand_in import Hub, Repository

WRITER, READER, FINE = "hf_writer", "hf_reader", "hf_fine"
"""Tokens of the account "you", a member of "org": one that may write, one that may only read, and a
fine-grained one, whose rights the account does not tell: it may not write either."""
ROLES = {WRITER: "write", READER: "read", FINE: "fineGrained"}
OWNERS = ("you", "org")
PART = 400_000
"""Larger contents are sent in parts of so many bytes."""

Answer = tuple[int, dict[str, str], object]


@dataclass
class Storage:
    """Contents of large files, whole and in parts."""

    folder: Path
    """Parent of the folders of commits."""
    contents: dict[str, bytes] = field(default_factory=dict)
    parts: dict[tuple[str, int], bytes] = field(default_factory=dict)
    arrived: list[str] = field(default_factory=list)
    """SHA-256 of each part or whole file, in the order of arrival."""


def answer(hub: Hub, method: str, path: str, token: str, body: bytes) -> Answer | None:
    """Status, headers and JSON for a request of an upload; None for any other request."""
    for pattern, respond in _ROUTES.items():
        if found := re.fullmatch(pattern, f"{method} {path}"):
            return respond(hub, token, body, *found.groups())
    return None


def _refuse(status: int, message: str) -> Answer:
    return status, {"X-Error-Message": message}, {"error": message}


def _account(hub: Hub, token: str, body: bytes) -> Answer:
    access = {"role": ROLES[token], "displayName": "a token"}
    orgs = [{"type": "org", "name": name} for name in OWNERS[1:]]
    return 200, {}, {"name": OWNERS[0], "orgs": orgs, "auth": {"accessToken": access}}


def _create(hub: Hub, token: str, body: bytes) -> Answer:
    asked = json.loads(body)
    name = f"{asked['organization']}/{asked['name']}"
    if ROLES.get(token) != "write" or asked["organization"] not in OWNERS:
        return _refuse(403, "You don't have the rights to create a model under this namespace")
    known = {"url": f"{hub.url}/{name}"}
    if name in hub.repositories:
        return 409, {}, known | {"error": "You already created this model repo"}
    private = asked.get("private") or asked.get("visibility") == "private"
    folder = hub.storage.folder / name / "0"
    folder.mkdir(parents=True)
    (folder / ".gitattributes").write_text("*.safetensors filter=lfs diff=lfs merge=lfs -text\n")
    hub.add(name, folder, private=bool(private))
    return 200, {}, known


def _validate(hub: Hub, token: str, body: bytes) -> Answer:
    """Check a card's metadata by a few of the hub's rules."""
    found = re.match(r"---\n(.*?)\n---\n", json.loads(body)["content"], re.DOTALL)
    metadata = yaml.safe_load(found[1]) if found else {}
    wrong = [
        name
        for name, value in metadata.items()
        if not all(
            isinstance(item, str) for item in (value if isinstance(value, list) else [value])
        )
    ]
    if metadata.get("base_model_relation", "quantized") != "quantized":
        wrong.append("base_model_relation")
    errors = [{"message": f'"{name}" is not right'} for name in wrong]
    return (400 if errors else 200), {}, {"errors": errors, "warnings": []}


def _preupload(hub: Hub, token: str, body: bytes, name: str, branch: str) -> Answer:
    """Tell which files are large, and which exist already and need not be sent."""
    repository = hub.repositories[name]
    folder = repository.folders[repository.branches[branch]]
    files = []
    for asked in json.loads(body)["files"]:
        there, large = folder / asked["path"], asked["path"].endswith(".safetensors")
        entry = {"path": asked["path"], "uploadMode": "lfs" if large else "regular"}
        if there.is_file():
            entry["oid"] = _oid(there.read_bytes(), large)
        files.append(entry | {"shouldIgnore": False})
    return 200, {}, {"files": files}


def _oid(data: bytes, large: bool) -> str:
    """Git's and Git LFS's identifiers of contents."""
    return (
        hashlib.sha256(data).hexdigest()
        if large
        else hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    )


def _batch(hub: Hub, token: str, body: bytes, name: str) -> Answer:
    """Upload addresses for the large files that have not arrived yet."""
    objects = []
    for asked in json.loads(body)["objects"]:
        oid, size = asked["oid"], asked["size"]
        entry: dict[str, object] = {"oid": oid, "size": size}
        if oid not in hub.storage.contents:
            target = f"{hub.url}/storage/{oid}"
            upload: dict[str, object] = {"href": target}
            if size > PART:
                parts = range(1, -(-size // PART) + 1)
                header = {str(number): f"{target}/{number}" for number in parts}
                upload = {"href": target, "header": header | {"chunk_size": str(PART)}}
            entry["actions"] = {"upload": upload, "verify": {"href": f"{target}/verify"}}
        objects.append(entry)
    return 200, {}, {"transfer": "basic", "objects": objects}


def _store(hub: Hub, token: str, body: bytes, oid: str, number: str | None) -> Answer:
    hub.storage.arrived.append(oid)
    if number is not None:
        hub.storage.parts[oid, int(number)] = body
        return 200, {"ETag": f'"{hashlib.md5(body).hexdigest()}"'}, {}
    return _keep(hub, oid, body)


def _complete(hub: Hub, token: str, body: bytes, oid: str) -> Answer:
    numbers = [part["partNumber"] for part in json.loads(body)["parts"]]
    return _keep(hub, oid, b"".join(hub.storage.parts[oid, number] for number in numbers))


def _keep(hub: Hub, oid: str, data: bytes) -> Answer:
    if hashlib.sha256(data).hexdigest() != oid:
        return _refuse(400, "The content is not what was announced")
    hub.storage.contents[oid] = data
    return 200, {}, {}


def _verify(hub: Hub, token: str, body: bytes, oid: str) -> Answer:
    asked, data = json.loads(body), hub.storage.contents.get(oid)
    right = data is not None and asked == {"oid": oid, "size": len(data)}
    return (200, {}, {}) if right else _refuse(404, "It has not arrived")


def _commit(hub: Hub, token: str, body: bytes, name: str, branch: str) -> Answer:
    repository = hub.repositories[name]
    head = repository.folders[repository.branches[branch]]
    folder = hub.storage.folder / name / str(len(repository.folders))
    shutil.copytree(head, folder)
    for line in body.splitlines():
        operation = json.loads(line)
        kind, value = operation["key"], operation["value"]
        if kind == "deletedFile":
            (folder / value["path"]).unlink()
        elif kind == "file":
            (folder / value["path"]).write_bytes(base64.b64decode(value["content"]))
        elif kind == "lfsFile":
            if value["oid"] not in hub.storage.contents:
                return _refuse(400, "The commit names a content that has not arrived")
            (folder / value["path"]).write_bytes(hub.storage.contents[value["oid"]])
    commit = hashlib.sha1(str(folder).encode()).hexdigest()
    repository.folders[commit] = folder
    repository.branches[branch] = commit
    return 200, {}, {"commitOid": commit, "commitUrl": f"{hub.url}/{name}/commit/{commit}"}


def _for_writers(respond):
    """Check that the repository exists and that the token may write to it."""

    def checked(hub: Hub, token: str, body: bytes, name: str, *rest: str) -> Answer:
        repository: Repository | None = hub.repositories.get(name)
        if repository is None:
            return _refuse(404, "Repository not found")
        if ROLES.get(token) != "write" or name.split("/")[0] not in OWNERS:
            return _refuse(403, "You are not allowed to write to this repository")
        return respond(hub, token, body, name, *rest)

    return checked


_ROUTES = {
    "GET /api/whoami-v2": _account,
    "POST /api/repos/create": _create,
    "POST /api/validate-yaml": _validate,
    "POST /api/models/([^/]+/[^/]+)/preupload/(.+)": _for_writers(_preupload),
    r"POST /([^/]+/[^/]+)\.git/info/lfs/objects/batch": _for_writers(_batch),
    "PUT /storage/([^/]+)(?:/([0-9]+))?": _store,
    "POST /storage/([^/]+)": _complete,
    "POST /storage/([^/]+)/verify": _verify,
    "POST /api/models/([^/]+/[^/]+)/commit/(.+)": _for_writers(_commit),
}
