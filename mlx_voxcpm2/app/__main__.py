"""The command line: `python -m mlx_voxcpm2.app`, a page in the browser."""

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
        description="Speak on a page in the browser. It is seen on this machine only, unless "
        "--host or --share says otherwise. Flags may be spelled with - for _.",
    )
    where = parser.add_argument_group("where the page is")
    flag(
        where, "host", "server_name", default=HOST,
        help="0.0.0.0 shows it to the network, without a password (default %(default)s)",
    )  # fmt: skip
    flag(where, "port", "server_port", type=int, default=PORT, help="(default %(default)s)")
    flag(
        where, "share", action="store_true",
        help="show it to whoever knows a public address, by a server of Gradio's",
    )  # fmt: skip
    add_model_flags(parser)
    return parser


def check(args: argparse.Namespace) -> None:
    """All that can be found wrong before a model is loaded. Raises ValueError or OSError."""
    if importlib.util.find_spec("gradio") is None:
        raise ValueError("the page needs Gradio; pip install 'mlx-voxcpm2[app]'")
    chosen_options(args)
    check_integer("port", args.port, 1, 65535)
    check_port(args.host, args.port)


def check_port(host: str, port: int) -> None:
    """Raises OSError unless a server can listen there."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            # As the server does it, so that a page that just ended is in nobody's way.
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
    """For what is recorded, uploaded and spoken; it goes when the page ends."""
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
    """Gradio's tunnel is a process of its own, which would outlive us."""
    from gradio.tunneling import CURRENT_TUNNELS

    for tunnel in CURRENT_TUNNELS:
        tunnel.kill()


def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    return run(build_parser(prog or "python -m mlx_voxcpm2.app"), show, argv)


if __name__ == "__main__":
    sys.exit(main())
