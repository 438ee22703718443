"""What the server is made of: its address, its adapters, the model in its thread, a recogniser."""

from __future__ import annotations

import os
import socket
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ..errors import one_line
from .model_flags import load

if TYPE_CHECKING:
    from ..server.exchange import Service
    from ..server.request import Limits
    from ..server.transcription import RecogniserThread
    from ..voices.registry import VoiceRegistry
    from ..weights.adapter_files import StoredAdapter
    from .serve import ServeArguments

KEY_VARIABLE = "MLX_VOXCPM2_API_KEY"
LIBRARIES = ("fastapi", "pydantic", "python_multipart", "prometheus_client", "uvicorn")


def pairs(name: str, given: tuple[str, ...]) -> dict[str, str]:
    """NAME=VALUE of a flag, as a dict. Raises ValueError for what is none."""
    found = {}
    for each in given:
        key, _, value = each.partition("=")
        if not (key.strip() and value.strip()):
            raise ValueError(f"--{name} {each!r} is no NAME=VALUE; give both")
        found[key.strip()] = value.strip()
    return found


def check_server_installed(extra: str = "server") -> None:
    """Raise ValueError if a library of the extra is missing: "server", or "app" with its page."""
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if missing:
        raise ValueError(
            f"the server needs {missing[0]}; install the extra: pip install 'mlx-voxcpm2[{extra}]'"
        )


def check_access(arguments: ServeArguments) -> None:
    """Raise ValueError for a server that other machines reach without a key."""
    from ..server.access import is_loopback

    if not (is_loopback(arguments.host) or arguments.key or arguments.no_auth):
        raise ValueError(
            f"other machines can reach {arguments.host}; set {KEY_VARIABLE} or --api_key, or "
            "--no_auth if anyone may use it"
        )


def read_adapters(arguments: ServeArguments) -> dict[str | None, StoredAdapter]:
    """The adapters that requests name, and that of --adapter as None, read from their files.

    Raises ValueError or FileNotFoundError.
    """
    from ..weights.adapter_files import read_adapter, split_strength

    named = pairs("adapters", arguments.adapters)
    found: dict[str | None, StoredAdapter] = {
        name: read_adapter(*split_strength(path)) for name, path in named.items()
    }
    if found and arguments.model.adapter is not None:
        found[None] = read_adapter(*split_strength(arguments.model.adapter))
    return found


def model_name(path_or_repo: str) -> str:
    """Name of the model for clients: a repository, or a folder without its parents."""
    path = os.path.expanduser(path_or_repo)
    return os.path.basename(os.path.realpath(path)) if os.path.exists(path) else path_or_repo


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket that listens, made before a model is loaded. Raises OSError, in one line."""
    listener = None
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise OSError(
            f"port {port} of {host} can't be taken ({one_line(error)}); give another --port or "
            "--host"
        ) from None
    return listener


def announce(model: str, listener: socket.socket) -> None:
    """Tell the address that clients use as their base URL."""
    host, port = listener.getsockname()[:2]
    host = f"[{host}]" if ":" in host else host
    print(f"{model} speaks at http://{host}:{port}/v1", file=sys.stderr, flush=True)


def load_service(arguments: ServeArguments, registry: VoiceRegistry, limits: Limits) -> Service:
    """The model in its thread, and what its requests share. Raises what loading raises."""
    from ..server.exchange import Service
    from ..server.model_thread import ModelThread
    from ..server.voices import NamedVoices

    thread = ModelThread(
        lambda: load(arguments.model), arguments.batch_size, lambda: read_adapters(arguments)
    )
    try:
        voices = NamedVoices(thread, registry, pairs("alias", arguments.alias))
        thread.submit(voices.check).result()
    except BaseException:
        thread.close()  # MLX aborts a process that ends while a thread has its streams
        raise
    return Service(thread, voices, limits, arguments.batch_size + arguments.max_queue)


def load_recogniser(path_or_repo: str | None) -> RecogniserThread | None:
    """The recogniser of transcriptions, in its thread. Raises ValueError or FileNotFoundError."""
    if path_or_repo is None:
        return None
    from ..recognition.recogniser import load_recogniser
    from ..server.transcription import RecogniserThread

    return RecogniserThread(lambda: load_recogniser(path_or_repo))
