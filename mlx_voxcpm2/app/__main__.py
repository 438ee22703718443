"""Command line of the page: `mlx-voxcpm2 app`."""

from __future__ import annotations

import argparse
import errno
import importlib.util
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..commands.model_flags import add_model_flags, load
from ..commands.option_flags import chosen_options, option_values
from ..commands.shell import Parser, flag, messages_on_success, run, stopped_by_signals
from ..errors import one_line
from ..schema import check_integer

HOST, PORT = "127.0.0.1", 7860


def build_parser(prog: str | None = None) -> Parser:
    parser = Parser(
        prog=prog,
        description="Speak on a web page. Only this machine sees it, unless --host or --share says "
        "otherwise. Flags may be spelled with - for _.",
    )
    where = parser.add_argument_group("address of the page")
    network = "0.0.0.0 shows it to the network, without a password (default %(default)s)"
    flag(where, "host", "server_name", default=HOST, help=network)
    flag(where, "port", "server_port", type=int, default=PORT, help="(default %(default)s)")
    public = "show it at a public address, through a server of Gradio's"
    flag(where, "share", action="store_true", help=public)
    add_model_flags(parser)
    return parser


def check(args: argparse.Namespace) -> None:
    """Check everything that needs no model. Raises ValueError or OSError."""
    if importlib.util.find_spec("gradio") is None:
        raise ValueError("the page needs Gradio; pip install 'mlx-voxcpm2[app]'")
    chosen_options(args)
    check_integer("port", args.port, 1, 65535)
    check_port(args.host, args.port)


def check_port(host: str, port: int) -> None:
    """Raise OSError unless a server can listen there."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            # As the server does, so that a page that has just ended does not block the port.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except socket.gaierror:
        raise OSError(f"no host {host!r}; give one of this machine by --host") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise OSError(f"port {port} is in use; give another by --port") from None
        raise OSError(
            f"{host}:{port} can't be used ({one_line(error)}); give others by --host and --port"
        ) from None


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yields a folder for recordings, uploads and speech; removed when the page ends."""
    with tempfile.TemporaryDirectory(prefix="mlx-voxcpm2-", ignore_cleanup_errors=True) as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        yield Path(folder)


def show(args: argparse.Namespace) -> None:
    check(args)
    with stopped_by_signals(), temporary_folder() as folder:
        from .serving import serve
        from .worker import SpeechWorker

        with messages_on_success():
            worker = SpeechWorker(lambda: load(args), folder)
        address = serve(worker, option_values(args), args.host, args.port, args.share)
        print(f"{address} shows the page; Ctrl-C ends it", file=sys.stderr, flush=True)
        try:
            threading.Event().wait()
        finally:
            end_sharing()


def end_sharing() -> None:
    """Stop Gradio's tunnel, a process of its own that would not end with this one."""
    from gradio.tunneling import CURRENT_TUNNELS

    for tunnel in CURRENT_TUNNELS:
        tunnel.kill()


def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    return run(build_parser(prog or "python -m mlx_voxcpm2.app"), show, argv)


if __name__ == "__main__":
    sys.exit(main())
