"""A stand-in for the Hugging Face hub on this machine: the API that `snapshot_download` calls.

The API of uploads is in `hub_uploads`.
"""

import hashlib
import json
import os
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import hub_uploads
from hub_uploads import ROLES, Storage

MEMBER, STRANGER = "hf_member", "hf_stranger"
"""Tokens: who accepted the licence of gated repositories, and who did not."""


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]

    @property
    def file(self) -> str | None:
        """Path of the requested file in its repository."""
        _, found, rest = self.path.partition("/resolve/")
        return rest.split("/", 1)[1] if found else None


@dataclass
class Repository:
    folders: dict[str, Path]
    """Commits, and the folders that hold their files."""
    branches: dict[str, str]
    gated: bool = False
    answer: int = 200
    """Another status is all that the repository answers with."""
    private: bool = False
    """Whether the repository is visible only to the tokens of uploads."""

    @property
    def now(self) -> Path:
        """Folder with the files of the main branch."""
        return self.folders[self.branches["main"]]


@dataclass
class Cut:
    """Planned interruption of a download: half of the file, then the connection ends."""

    times: int
    reset: bool = False
    """Whether the connection is reset, as by a router that drops it, instead of closed."""
    pause: float = 0
    """Seconds that pass after a half that was sent."""


@dataclass
class Hub:
    """A server in a thread of this process; `with Hub() as hub` starts and ends it."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    cuts: dict[str, Cut] = field(default_factory=dict)
    """Interruptions by file name, or for uploads by the path of the request."""
    requests: list[Request] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)
    """Error statuses by the path that answers with them."""
    prefix: str = ""
    """Path under which a mirror answers."""
    is_redirecting: bool = False
    """Whether files are sent from another address, `/files`, as mirrors do."""
    storage: Storage | None = None
    """Contents for uploads; None refuses them."""

    def __enter__(self) -> "Hub":
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.hub = self
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, name: str, folder: Path, branch: str = "main", **options: object) -> Repository:
        """Add the files of a folder to a branch of a repository, new or not."""
        commit = hashlib.sha1(f"{name}@{branch}".encode()).hexdigest()
        repository = self.repositories.setdefault(name, Repository({}, {}, **options))
        repository.folders[commit] = folder
        repository.branches[branch] = commit
        return repository

    def published(self, name: str) -> dict[str, bytes]:
        """Files of a repository, without those that the hub itself adds."""
        files = [file for file in self.repositories[name].now.rglob("*") if file.is_file()]
        return {file.name: file.read_bytes() for file in files if file.name != ".gitattributes"}

    def environment(self, home: Path) -> dict[str, str]:
        """Environment of this hub's client: a cache in `home`, plain HTTP (as without hf_xet)."""
        ours = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("HF_", "HUGGING", "TRANSFORMERS_", "XDG_"))
            and not name.lower().endswith("_proxy")
        }
        settings = {"HF_HOME": str(home), "HF_ENDPOINT": self.url, "HF_HUB_DISABLE_XET": "1"}
        return ours | settings | {"NO_PROXY": "127.0.0.1"}

    def fetched(self) -> list[str]:
        """Names of the requested files, in alphabetical order."""
        files = [request.file for request in self.requests if request.method == "GET"]
        return sorted(file for file in files if file is not None)

    def ranges(self, file: str) -> list[str | None]:
        """Range header of each request for a file."""
        asked = [request for request in self.requests if request.file == file]
        return [request.headers.get("range") for request in asked if request.method == "GET"]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def log_message(self, *_: object) -> None:
        """Suppress the log; requests are recorded instead."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub: Hub = self.server.hub
        path = unquote(urlsplit(self.path).path)  # a proxy is asked for the whole address
        headers = {name.lower(): value for name, value in self.headers.items()}
        hub.requests.append(Request(self.command, path, headers))
        token = headers.get("authorization", "").removeprefix("Bearer ")
        body = self._read(path, headers)
        if body is None:
            return self._reset()
        if token not in ("", MEMBER, STRANGER, *ROLES):
            return self._refuse(401, None, "Invalid credentials in Authorization header")
        is_elsewhere = path.startswith("/files/")
        if not is_elsewhere and not path.startswith(hub.prefix):
            return self._send(200, {"Content-Type": "text/html"}, b"<p>No hub lives here.</p>")
        path = path.removeprefix("/files" if is_elsewhere else hub.prefix)
        if path in hub.statuses:
            return self._refuse(hub.statuses[path], None, "Out of order")
        if answer := hub_uploads.answer(hub, self.command, path, token, body):
            status, names, content = answer
            names = {"Content-Type": "application/json"} | names
            return self._send(status, names, json.dumps(content).encode())
        parts = path.removeprefix("/api/models").strip("/").split("/")
        repository = hub.repositories.get("/".join(parts[:2]))
        if repository is None or (repository.private and token not in ROLES):
            return self._refuse(404 if token else 401, "RepoNotFound", "Repository not found")
        if repository.answer != 200:
            return self._refuse(repository.answer, None, "Out of order")
        kind, revision, *rest = parts[2:] or ["revision", "main"]
        commit = repository.branches.get(revision, revision)
        if commit not in repository.folders:
            return self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        folder, name = repository.folders[commit], "/".join(parts[:2])
        if kind != "resolve":
            return self._list(kind, name, commit, folder)
        if repository.gated and token != MEMBER:
            return self._refuse(403 if token else 401, "GatedRepo", f"{name} is restricted")
        file = folder.joinpath(*rest)
        if not file.is_file():
            return self._refuse(404, "EntryNotFound", "Entry not found")
        if hub.is_redirecting and not is_elsewhere:
            return self._redirect(f"{hub.url}/files{path}", file, commit)
        return self._send_file("/".join(rest), file, commit, headers.get("range"))

    def _refuse(self, status: int, code: str | None, message: str) -> None:
        names = {"X-Error-Code": code, "X-Error-Message": message}
        self._send(status, {key: value for key, value in names.items() if value}, b"")

    def _list(self, kind: str, name: str, commit: str, folder: Path) -> None:
        files = {
            path.relative_to(folder).as_posix(): path.stat().st_size
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        if kind == "tree":
            listing: object = [
                {"type": "file", "path": path, "size": size, "oid": _digest(folder / path)}
                for path, size in files.items()
            ]
        else:
            siblings = [{"rfilename": path} for path in files]
            listing = {"id": name, "modelId": name, "sha": commit, "siblings": siblings}
            listing["private"] = self.server.hub.repositories[name].private
        content = {"Content-Type": "application/json"}
        self._send(200, content, json.dumps(listing).encode())

    def _redirect(self, url: str, file: Path, commit: str) -> None:
        linked = {"X-Linked-Etag": f'"{_digest(file)}"', "X-Linked-Size": str(file.stat().st_size)}
        self._send(302, {"Location": url, "X-Repo-Commit": commit} | linked, b"")

    def _send_file(self, name: str, file: Path, commit: str, wanted: str | None) -> None:
        data, headers = file.read_bytes(), {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        headers["ETag"] = f'"{_digest(file)}"'
        if file.suffix == ".safetensors":  # the hub keeps large files so, for clients who can
            headers["X-Xet-Hash"] = hashlib.sha256(data).hexdigest()
            headers["Link"] = f'<{self.server.hub.url}/xet>; rel="xet-auth"'
        status, start = 200, 0
        if wanted is not None:
            status, start = 206, int(wanted.removeprefix("bytes=").split("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        cut = self.server.hub.cuts.get(name)
        if self.command == "HEAD" or cut is None or cut.times == 0:
            return self._send(status, headers, data[start:])
        cut.times -= 1
        self._send(status, headers, data[start:], kept=(len(data) - start) // 2)
        time.sleep(cut.pause)
        self.close_connection = True
        if cut.reset:
            self._reset()

    def _read(self, path: str, headers: dict[str, str]) -> bytes | None:
        """Body of the request; None if the connection is to end on the way."""
        length, cut = int(headers.get("content-length", 0)), self.server.hub.cuts.get(path)
        if "content-length" not in headers and self.command in ("POST", "PUT"):
            raise ValueError("the stand-in wants to know how long it is")
        if cut is None or cut.times == 0:
            return self.rfile.read(length)
        cut.times -= 1
        self.rfile.read(length // 2)
        return None

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())  # before the server says goodbye

    def _send(self, status: int, headers: dict[str, str], body: bytes, kept: int | None = None):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:kept])


def _digest(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()
