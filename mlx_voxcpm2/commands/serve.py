"""The command line: `mlx-voxcpm2 serve`, an OpenAI-compatible speech server."""

from __future__ import annotations

import argparse
import logging
import os
import socket
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ..errors import one_line
from ..settings import check_settings, setting
from ..speech.options import GenerationOptions
from .model_flags import ModelChoice, add_model_flags, load
from .peer_flags import add_peer_flags
from .setting_flags import add_setting_flags, read_settings
from .shell import Parser, flag, messages_on_success, run

if TYPE_CHECKING:
    from ..server.exchange import Service
    from ..server.request import Limits
    from ..server.transcription import RecogniserThread
    from ..voices.registry import VoiceRegistry
    from ..weights.adapter_files import StoredAdapter

KEY_VARIABLE = "MLX_VOXCPM2_API_KEY"
LIBRARIES = ("fastapi", "pydantic", "python_multipart", "prometheus_client", "uvicorn")


@dataclass(frozen=True)
class ServeArguments:
    """Address, access, voices and limits of the server, and its model with the default options."""

    model: ModelChoice
    options: GenerationOptions
    host: str = setting(
        "127.0.0.1", "text", "address to listen at: this machine only, or 0.0.0.0 for all networks"
    )
    port: int = setting(8000, "integer", "port; 0 for a free one", low=0, high=65535)
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    api_key: str | None = setting(
        None,
        "text",
        f"key that requests must have; other users see it here, but not in ${KEY_VARIABLE}",
        metavar="KEY",
    )
    no_auth: bool = setting(
        False, "switch", "ask for no key although other machines can send requests"
    )
    voices: tuple[str, ...] | None = None
    """Voices to offer; None for all saved ones."""
    voice: str | None = setting(
        None,
        "text",
        "voice of requests that name none or 'default' (default: the model makes one up)",
        metavar="NAME_OR_PATH",
    )
    alias: tuple[str, ...] = ()
    """NAME=VOICE each."""
    adapters: tuple[str, ...] = ()
    """NAME=PATH[:SCALE] each."""
    asr_model: str | None = setting(
        None,
        "text",
        "recogniser for POST /v1/audio/transcriptions (needs the extra asr)",
        metavar="PATH_OR_REPO",
    )
    max_text_length: int = setting(4096, "integer", "characters of one request at most", low=1)
    batch_size: int = setting(8, "integer", "requests generated at once", low=1)
    max_queue: int = setting(
        64, "integer", "further requests that may wait; others get status 503", low=0
    )
    strict: bool = setting(False, "switch", "refuse unknown fields and models")
    grace: float = setting(
        30.0,
        "number",
        "time that requests under way have when the server is stopped",
        low=0,
        high=3600,
        metavar="SECONDS",
    )
    verbose: bool = False

    def __post_init__(self):
        check_settings(self)
        pairs("alias", self.alias)
        pairs("adapters", self.adapters)

    @property
    def key(self) -> str | None:
        """The key that requests must have, of the flag or the environment."""
        return self.api_key or os.environ.get(KEY_VARIABLE) or None


def pairs(name: str, given: tuple[str, ...]) -> dict[str, str]:
    """NAME=VALUE of a flag, as a dict. Raises ValueError for what is none."""
    found = {}
    for each in given:
        key, _, value = each.partition("=")
        if not (key.strip() and value.strip()):
            raise ValueError(f"--{name} {each!r} is no NAME=VALUE; give both")
        found[key.strip()] = value.strip()
    return found


EXAMPLES = f"""
{{prog}} --voice anna
{{prog}} --alias alloy=anna --alias echo=ben
{KEY_VARIABLE}=secret {{prog}} --host 0.0.0.0 --port 8080 --batch_size 16
"""
COMMON = {
    "address": "host port allowed_hosts allowed_origins api_key no_auth".split(),
    "voices": "voices voice alias".split(),
    "requests": "max_text_length batch_size max_queue strict grace asr_model".split(),
    "model": "model quantize adapter cfg_value inference_timesteps verbose".split(),
}
"""Flags that --help shows."""


def build_parser(prog: str | None = None) -> Parser:
    parser = Parser(
        COMMON,
        EXAMPLES,
        prog=prog,
        usage="%(prog)s [FLAG …]",
        description="Serve speech as OpenAI's service does: POST /v1/audio/speech and more. "
        "Flags may be spelled with - for _.",
    )
    address = parser.add_argument_group("address")
    add_setting_flags(address, ServeArguments, ["host", "port"])
    access = parser.add_argument_group("access")
    hosts = "further names of this server in the addresses that clients use (* for any)"
    flag(access, "allowed_hosts", nargs="+", default=[], metavar="NAME", help=hosts)
    origins = "web pages that may send requests from a browser (default this machine's, * for any)"
    flag(access, "allowed_origins", nargs="+", default=[], metavar="URL", help=origins)
    add_setting_flags(access, ServeArguments, ["api_key", "no_auth"])
    voices = parser.add_argument_group("voices")
    offered = "voices to offer (default: all that `mlx-voxcpm2 voice add` saved)"
    flag(voices, "voices", nargs="+", metavar="NAME_OR_PATH", help=offered)
    add_setting_flags(voices, ServeArguments, ["voice"])
    repeated = {"action": "append", "default": []}
    alias = "another name of a voice, for clients that know only their own; may be repeated"
    flag(voices, "alias", metavar="NAME=VOICE", help=alias, **repeated)
    adapters = "LoRA adapter that requests choose by this name; may be repeated"
    flag(voices, "adapters", metavar="NAME=PATH[:SCALE]", help=adapters, **repeated)
    limits = parser.add_argument_group("requests")
    add_setting_flags(limits, ServeArguments, COMMON["requests"])
    add_model_flags(parser)
    return add_peer_flags(parser, "serve")


def read_arguments(args: argparse.Namespace) -> ServeArguments:
    """The dataclasses of the flags. Raises ValueError, in one line."""
    return read_settings(
        ServeArguments,
        args,
        allowed_hosts=tuple(args.allowed_hosts),
        allowed_origins=tuple(args.allowed_origins),
        alias=tuple(args.alias),
        adapters=tuple(args.adapters),
        voices=None if args.voices is None else tuple(args.voices),
        verbose=args.verbose,
        model=read_settings(ModelChoice, args),
        options=read_settings(GenerationOptions, args),
    )


def serve(arguments: ServeArguments) -> None:
    """Serve requests until Ctrl-C or SIGTERM. Raises ValueError or OSError."""
    check_server_installed()
    from ..server.access import Access
    from ..server.application import application
    from ..server.process import server_of
    from ..server.request import Limits
    from ..voices.registry import VoiceRegistry

    check_access(arguments)
    registry = VoiceRegistry(arguments.voices, arguments.voice)
    hosts, origins = arguments.allowed_hosts, arguments.allowed_origins
    access = Access(arguments.host, hosts, origins, arguments.key)
    with bound_socket(arguments.host, arguments.port) as listener:
        name = model_name(arguments.model.model)
        limits = Limits(name, arguments.max_text_length, arguments.options, arguments.strict)
        with messages_on_success():
            service = load_service(arguments, registry, limits)
            recogniser = load_recogniser(arguments.asr_model)
        logging.getLogger("mlx_voxcpm2.requests").setLevel(logging.INFO)
        app = application(service, access, recogniser)
        server = server_of(
            app, arguments.grace, lambda: announce(limits.model, listener), arguments.verbose
        )
        server.run([listener])
        service.thread.close()


def announce(model: str, listener: socket.socket) -> None:
    """Tell the address that clients use as their base URL."""
    host, port = listener.getsockname()[:2]
    host = f"[{host}]" if ":" in host else host
    print(f"{model} speaks at http://{host}:{port}/v1", file=sys.stderr, flush=True)


def check_server_installed() -> None:
    """Raise ValueError if a library of the extra `server` is missing."""
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if missing:
        raise ValueError(
            f"the server needs {missing[0]}; install the extra: pip install 'mlx-voxcpm2[server]'"
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


def load_service(arguments: ServeArguments, registry: VoiceRegistry, limits: Limits) -> Service:
    """The model in its thread, and what its requests share. Raises what loading raises."""
    from ..server.exchange import Service
    from ..server.model_thread import ModelThread
    from ..server.voices import NamedVoices

    thread = ModelThread(
        lambda: load(arguments.model), arguments.batch_size, lambda: read_adapters(arguments)
    )
    voices = NamedVoices(thread, registry, pairs("alias", arguments.alias))
    thread.submit(voices.check).result()
    return Service(thread, voices, limits, arguments.batch_size + arguments.max_queue)


def load_recogniser(path_or_repo: str | None) -> RecogniserThread | None:
    """The recogniser of transcriptions, in its thread. Raises ValueError or FileNotFoundError."""
    if path_or_repo is None:
        return None
    from ..recognition.recogniser import load_recogniser
    from ..server.transcription import RecogniserThread

    return RecogniserThread(lambda: load_recogniser(path_or_repo))


def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    parser = build_parser(prog or "python -m mlx_voxcpm2.commands.serve")
    return run(parser, lambda args: serve(read_arguments(args)), argv)


if __name__ == "__main__":
    sys.exit(main())
