"""The command line: `python -m mlx_voxcpm2.app`, a web page to speak with."""

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
from dataclasses import asdict, dataclass
from pathlib import Path

from ..commands.model_flags import ModelChoice, add_model_flags, load
from ..commands.peer_flags import add_peer_flags
from ..commands.setting_flags import add_setting_flags, read_settings
from ..commands.shell import Parser, messages_on_success, run, stopped_by_signals
from ..errors import one_line
from ..settings import check_settings, setting
from ..speech.options import GenerationOptions


@dataclass(frozen=True)
class AppArguments:
    """Address of the page, and its model with the default options."""

    model: ModelChoice
    options: GenerationOptions
    host: str = setting(
        "127.0.0.1",
        "text",
        "address to listen at; 0.0.0.0 shows the page to the network, without a password",
    )
    port: int = setting(7860, "integer", "port", low=1, high=65535)
    share: bool = setting(
        False, "switch", "show it, through a server of Gradio's, to all who know a public address"
    )

    def __post_init__(self):
        check_settings(self)


EXAMPLES = """
{prog} --model demo
{prog} --model mlx-community/VoxCPM2-8bit --port 7861
"""
COMMON = {
    "address": "host port share".split(),
    "model": "model quantize adapter cfg_value inference_timesteps seed verbose".split(),
}
"""Flags that --help shows."""


def build_parser(prog: str | None = None) -> Parser:
    parser = Parser(
        COMMON,
        EXAMPLES,
        prog=prog,
        usage="%(prog)s [FLAG …]",
        description="Open a web page to speak with. It is seen on this machine only, unless "
        "--host or --share says otherwise. Flags may be spelled with - for _.",
    )
    add_setting_flags(parser.add_argument_group("address"), AppArguments)
    add_model_flags(parser)
    return add_peer_flags(parser, "app")


def read_arguments(args: argparse.Namespace) -> AppArguments:
    """The dataclasses of the flags. Raises ValueError, in one line."""
    model, options = read_settings(ModelChoice, args), read_settings(GenerationOptions, args)
    return read_settings(AppArguments, args, model=model, options=options)


def check(arguments: AppArguments) -> None:
    """Raise ValueError or OSError, before a model is loaded, if the page can't be shown."""
    if importlib.util.find_spec("gradio") is None:
        raise ValueError("the page needs Gradio; pip install 'mlx-voxcpm2[app]'")
    check_port(arguments.host, arguments.port)


def check_port(host: str, port: int) -> None:
    """Raise OSError unless a server can listen there."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            # As the server does, so that the port of a page that has just ended is free.
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
    """A folder for recordings, uploads and speech, deleted when the page ends."""
    with tempfile.TemporaryDirectory(prefix="mlx-voxcpm2-", ignore_cleanup_errors=True) as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        yield Path(folder)


def show(arguments: AppArguments) -> None:
    """Show the page until Ctrl-C or a signal. Raises ValueError or OSError."""
    check(arguments)
    with stopped_by_signals(), temporary_folder() as folder:
        from .serving import serve
        from .worker import SpeechWorker

        with messages_on_success():
            worker = SpeechWorker(lambda: load(arguments.model), folder)
        options = asdict(arguments.options)
        address = serve(worker, options, arguments.host, arguments.port, arguments.share)
        print(f"{address} shows the page; Ctrl-C ends it", file=sys.stderr, flush=True)
        try:
            threading.Event().wait()
        finally:
            end_sharing()


def end_sharing() -> None:
    """End Gradio's tunnel, a process of its own, which would outlive this one."""
    from gradio.tunneling import CURRENT_TUNNELS

    for tunnel in CURRENT_TUNNELS:
        tunnel.kill()


def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    parser = build_parser(prog or "python -m mlx_voxcpm2.app")
    return run(parser, lambda args: show(read_arguments(args)), argv)


if __name__ == "__main__":
    sys.exit(main())
