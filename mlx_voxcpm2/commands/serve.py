"""The command line: `mlx-voxcpm2 serve`, an OpenAI-compatible speech server."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import one_line
from ..settings import check_settings, setting
from ..speech.options import GenerationOptions
from .model_flags import ModelChoice, add_model_flags, load
from .peer_flags import add_peer_flags
from .setting_flags import add_setting_flags, read_settings
from .shell import Parser, flag, messages_on_success, run

if TYPE_CHECKING:
    from fastapi import FastAPI

    from ..server.request import Limits
    from ..voices.registry import VoiceRegistry

# When the server is stopped, clients that are listening get this time to receive the rest.
GRACE_SECONDS = 5

# Time that a connection stays open for another request. OpenAI's client uses one again for 5 s,
# and would fail if we closed it at that moment.
KEEP_SECONDS = 30


@dataclass(frozen=True)
class ServeArguments:
    """Address, voices and limits of the server, and its model with the default options."""

    model: ModelChoice
    options: GenerationOptions
    host: str = setting(
        "127.0.0.1", "text", "address to listen at: this machine only, or 0.0.0.0 for all networks"
    )
    port: int = setting(8000, "integer", "port; 0 for a free one", low=0, high=65535)
    allowed_origins: tuple[str, ...] = ()
    voices: tuple[str, ...] | None = None
    """Voices to offer; None for all saved ones."""
    voice: str | None = setting(
        None,
        "text",
        "voice of requests that name none or 'default' (default: the model makes one up)",
        metavar="NAME_OR_PATH",
    )
    max_text_length: int = setting(4096, "integer", "characters of one request at most", low=1)
    batch_size: int = setting(8, "integer", "requests generated at once", low=1)
    max_queue: int = setting(
        64, "integer", "further requests that may wait; others get status 503", low=0
    )
    verbose: bool = False

    def __post_init__(self):
        check_settings(self)


EXAMPLES = """
{prog} --voice anna
{prog} --host 0.0.0.0 --port 8080 --batch_size 16
"""
COMMON = {
    "address": "host port allowed_origins".split(),
    "requests": "voices voice max_text_length batch_size max_queue".split(),
    "model": "model quantize adapter cfg_value inference_timesteps verbose".split(),
}
"""Flags that --help shows."""


def build_parser(prog: str | None = None) -> Parser:
    parser = Parser(
        COMMON,
        EXAMPLES,
        prog=prog,
        usage="%(prog)s [FLAG …]",
        description="Serve POST /v1/audio/speech as OpenAI's service does, by mlx-audio's server. "
        "Flags may be spelled with - for _.",
    )
    address = parser.add_argument_group("address")
    add_setting_flags(address, ServeArguments, ["host", "port"])
    origins = "web pages that may send requests from a browser (default none, * for any)"
    flag(address, "allowed_origins", nargs="+", default=[], metavar="URL", help=origins)
    voices = parser.add_argument_group("voices")
    offered = "voices to offer (default: all that `mlx-voxcpm2 voice add` saved)"
    flag(voices, "voices", nargs="+", metavar="NAME_OR_PATH", help=offered)
    add_setting_flags(voices, ServeArguments, ["voice"])
    limits = parser.add_argument_group("limits")
    add_setting_flags(limits, ServeArguments, ["max_text_length", "batch_size", "max_queue"])
    add_model_flags(parser)
    return add_peer_flags(parser, "serve")


def read_arguments(args: argparse.Namespace) -> ServeArguments:
    """The dataclasses of the flags. Raises ValueError, in one line."""
    return read_settings(
        ServeArguments,
        args,
        allowed_origins=tuple(args.allowed_origins),
        voices=None if args.voices is None else tuple(args.voices),
        verbose=args.verbose,
        model=read_settings(ModelChoice, args),
        options=read_settings(GenerationOptions, args),
    )


def serve(arguments: ServeArguments) -> None:
    """Serve requests until Ctrl-C or SIGTERM. Raises ValueError or OSError."""
    from ..server.request import Limits
    from ..server.routes import mlx_audio_server
    from ..voices.registry import VoiceRegistry

    voices = VoiceRegistry(arguments.voices, arguments.voice)
    mlx_audio_server()  # raises before a model is loaded if mlx-audio is missing
    with bound_socket(arguments.host, arguments.port) as listener:
        name = model_name(arguments.model.model)
        limits = Limits(name, arguments.max_text_length, arguments.options)
        with messages_on_success():
            app = application(arguments, voices, limits)
        host, port = listener.getsockname()[:2]
        host = f"[{host}]" if ":" in host else host
        print(f"{limits.model} speaks at http://{host}:{port}/v1", file=sys.stderr, flush=True)
        answer(app, listener, arguments.verbose)


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


def application(arguments: ServeArguments, voices: VoiceRegistry, limits: Limits) -> FastAPI:
    """The application, with its model loaded. Raises what loading raises."""
    from ..server.routes import ModelOwner, SpeechRoutes

    batch_size = arguments.batch_size
    owner = ModelOwner(lambda: load(arguments.model), limits.model, voices, batch_size)
    voices.check(owner.model.clip_encoder)
    routes = SpeechRoutes(owner, voices, limits, batch_size + arguments.max_queue)
    return routes.application(arguments.allowed_origins)


def answer(app: FastAPI, listener: socket.socket, verbose: bool) -> None:
    """Answer requests until Ctrl-C or SIGTERM."""
    import uvicorn

    # The routes log failures of requests; what uvicorn would add are clients cut off at the end.
    config = uvicorn.Config(
        app,
        log_level="info" if verbose else "critical",
        access_log=verbose,
        lifespan="on",
        timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_keep_alive=KEEP_SECONDS,
    )
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:
        pass  # the usual way to stop it; uvicorn has finished the other requests


def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    from ..mlx_audio import leave
    from ..server.routes import ModelOwner

    parser = build_parser(prog or "python -m mlx_voxcpm2.commands.serve")
    status = run(parser, lambda args: serve(read_arguments(args)), argv)
    if ModelOwner.has_begun:
        leave(status)
    return status


if __name__ == "__main__":
    sys.exit(main())
