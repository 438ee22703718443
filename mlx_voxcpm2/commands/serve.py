"""The command line: `mlx-voxcpm2 serve`, an OpenAI-compatible server that speaks."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from typing import TYPE_CHECKING

from ..errors import one_line
from ..schema import check_integer
from .model_flags import add_model_flags, load
from .option_flags import chosen_options
from .shell import Parser, flag, messages_on_success, run

if TYPE_CHECKING:
    from fastapi import FastAPI

    from ..server.request import Limits
    from ..voices.registry import VoiceRegistry

# A client that listens gets so many seconds to hear the end when the server is stopped.
GRACE_SECONDS = 5

# For how long a connection stays open for another request. OpenAI's client uses one again for 5 s,
# and one that we closed at that moment would be an error to it.
KEEP_SECONDS = 30


def build_parser(prog: str | None = None) -> Parser:
    parser = Parser(
        prog=prog,
        description="Speak for programs: POST /v1/audio/speech as OpenAI's service has it, by "
        "mlx-audio's server. Flags may be spelled with - for _.",
    )
    server = parser.add_argument_group("where")
    flag(
        server, "host", default="127.0.0.1",
        help="this machine only (default %(default)s); 0.0.0.0 for all who can reach it",
    )  # fmt: skip
    flag(server, "port", type=int, default=8000, help="0 for a free one (default %(default)s)")
    flag(
        server, "allowed_origins", nargs="+", default=[], metavar="URL",
        help="web pages that may ask from a browser (default none, * for any)",
    )  # fmt: skip
    voices = parser.add_argument_group("in which voices")
    flag(
        voices, "voices", nargs="+", metavar="NAME_OR_PATH",
        help="only these (default: all that `mlx-voxcpm2 voice` keeps)",
    )  # fmt: skip
    flag(
        voices, "voice", metavar="NAME_OR_PATH",
        help="for requests that name none or 'default' (default: the model makes one up)",
    )  # fmt: skip
    limits = parser.add_argument_group("how much")
    flag(
        limits, "max_text_length", type=int, default=4096,
        help="characters of one request (default %(default)s)",
    )  # fmt: skip
    flag(
        limits, "batch_size", type=int, default=8,
        help="requests that are spoken at once (default %(default)s)",
    )  # fmt: skip
    flag(
        limits, "max_queue", type=int, default=64,
        help="more that may wait; others are refused with status 503 (default %(default)s)",
    )  # fmt: skip
    add_model_flags(parser)
    return parser


def serve(args: argparse.Namespace) -> None:
    from ..server.request import Limits
    from ..server.routes import mlx_audio_server
    from ..voices.registry import VoiceRegistry

    for name, least in (("max_text_length", 1), ("batch_size", 1), ("max_queue", 0)):
        check_integer(name, getattr(args, name), least, None)
    check_integer("port", args.port, 0, 65535)
    options = chosen_options(args)
    voices = VoiceRegistry(args.voices, args.voice)
    mlx_audio_server()  # if it is missing, that is said before a model is loaded
    with bound_socket(args.host, args.port) as listener:
        limits = Limits(model_name(args.model), args.max_text_length, options)
        with messages_on_success():
            app = application(args, voices, limits)
        host, port = listener.getsockname()[:2]
        host = f"[{host}]" if ":" in host else host
        print(f"{limits.model} speaks at http://{host}:{port}/v1", file=sys.stderr, flush=True)
        answer(app, listener, args.verbose)


def model_name(path_or_repo: str) -> str:
    """What clients call it: a repository's name, or a folder's without what lies above it."""
    path = os.path.expanduser(path_or_repo)
    return os.path.basename(os.path.realpath(path)) if os.path.exists(path) else path_or_repo


def bound_socket(host: str, port: int) -> socket.socket:
    """Takes the port before a model is loaded. Raises OSError, in one line."""
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


def application(args: argparse.Namespace, voices: VoiceRegistry, limits: Limits) -> FastAPI:
    """With the model loaded. Raises what loading raises."""
    from ..server.routes import ModelOwner, SpeechRoutes

    owner = ModelOwner(lambda: load(args), limits.model, voices, args.batch_size)
    voices.check(owner.model.clip_encoder)
    routes = SpeechRoutes(owner, voices, limits, args.batch_size + args.max_queue)
    return routes.application(args.allowed_origins)


def answer(app: FastAPI, listener: socket.socket, verbose: bool) -> None:
    """Until Ctrl-C or SIGTERM."""
    import uvicorn

    # What goes wrong with a request we log ourselves; the rest is who was cut off at the end.
    config = uvicorn.Config(
        app, log_level="info" if verbose else "critical", access_log=verbose, lifespan="on",
        timeout_graceful_shutdown=GRACE_SECONDS, timeout_keep_alive=KEEP_SECONDS,
    )  # fmt: skip
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:
        pass  # the way to stop it; uvicorn has let the others finish


def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    from ..mlx_audio import leave
    from ..server.routes import ModelOwner

    status = run(build_parser(prog or "python -m mlx_voxcpm2.commands.serve"), serve, argv)
    if ModelOwner.has_begun:
        leave(status)
    return status


if __name__ == "__main__":
    sys.exit(main())
