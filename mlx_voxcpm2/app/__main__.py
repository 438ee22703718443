"""The command line: `python -m mlx_voxcpm2.app`, a web page to speak with."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from ..commands.model_flags import ModelChoice, add_model_flags, load
from ..commands.peer_flags import add_peer_flags
from ..commands.serve import bound_socket, model_name
from ..commands.setting_flags import add_setting_flags, read_settings
from ..commands.shell import Parser, flag, messages_on_success, run, stopped_by_signals
from ..settings import check_settings, setting
from ..speech.options import GenerationOptions

PASSWORD_VARIABLE = "MLX_VOXCPM2_PASSWORD"


@dataclass(frozen=True)
class AppArguments:
    """Address of the page, who may open it, and its model with the default options."""

    model: ModelChoice
    options: GenerationOptions
    host: str = setting(
        "127.0.0.1",
        "text",
        "address to listen at: this machine only, or 0.0.0.0 for all networks",
    )
    port: int = setting(7860, "integer", "port; 0 for a free one", low=0, high=65535)
    allowed_hosts: tuple[str, ...] = ()
    """Further names of the page, of a proxy for one."""
    password: str | None = setting(
        None,
        "text",
        f"password of the page, better given by the environment variable {PASSWORD_VARIABLE}",
    )
    no_auth: bool = setting(
        False, "switch", "let everybody open the page who reaches it, without a password"
    )
    asr_model: str | None = setting(
        None,
        "text",
        "recogniser that writes the words of clips (extra asr; default whisper-large-v3-turbo)",
        metavar="PATH_OR_REPO",
    )

    def __post_init__(self):
        from ..weights.hub import check_recogniser_name
        from .protection import is_loopback

        check_settings(self)
        if self.password is not None and not self.password.strip():
            raise ValueError("password is empty; give one, or leave it out")
        if self.password is None and not self.no_auth and not is_loopback(self.host):
            raise ValueError(
                f"{self.host} shows the page to others, without a password; give --password or the "
                f"environment variable {PASSWORD_VARIABLE}, or say --no_auth"
            )
        if self.asr_model is not None:
            check_recogniser_name(self.asr_model)


EXAMPLES = """
{prog} --model demo
{prog} --model mlx-community/VoxCPM2-8bit --port 7861
"""
COMMON = {
    "address": "host port password".split(),
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
        "--host says otherwise. Flags may be spelled with - for _.",
    )
    address = parser.add_argument_group("address")
    add_setting_flags(address, AppArguments, ["host", "port"])
    names = "further names under which browsers may ask for the page (* for any)"
    flag(address, "allowed_hosts", nargs="+", default=[], metavar="NAME", help=names)
    add_setting_flags(address, AppArguments, ["password", "no_auth"])
    clips = parser.add_argument_group("words of clips")
    add_setting_flags(clips, AppArguments, ["asr_model"])
    add_model_flags(parser)
    return add_peer_flags(parser, "app")


def read_arguments(args: argparse.Namespace) -> AppArguments:
    """The dataclasses of the flags. Raises ValueError, in one line."""
    return read_settings(
        AppArguments,
        args,
        model=read_settings(ModelChoice, args),
        options=read_settings(GenerationOptions, args),
        allowed_hosts=tuple(args.allowed_hosts),
        password=args.password or os.environ.get(PASSWORD_VARIABLE) or None,
    )


def check_installed() -> None:
    """Raise ValueError if the extra `app` is missing."""
    if not all(map(importlib.util.find_spec, ("starlette", "uvicorn"))):
        raise ValueError("the page needs starlette and uvicorn; pip install 'mlx-voxcpm2[app]'")


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for the takes, deleted when the page ends."""
    with tempfile.TemporaryDirectory(prefix="mlx-voxcpm2-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def show(arguments: AppArguments) -> None:
    """Show the page until Ctrl-C or a signal. Raises ValueError or OSError."""
    check_installed()
    listener = bound_socket(arguments.host, arguments.port)
    with listener, stopped_by_signals(), temporary_folder() as folder:
        from ..server.model_thread import ModelThread
        from .protection import Hosts, Password
        from .routes import PageRoutes
        from .serving import application, serve
        from .speaker import Speaker

        with messages_on_success():
            thread = ModelThread(lambda: load(arguments.model))
        password = None if arguments.password is None else Password(arguments.password)
        name = model_name(arguments.model.model)
        options = asdict(arguments.options)
        page = PageRoutes(Speaker(thread, folder), options, name, password, arguments.asr_model)
        hosts = Hosts(arguments.host, arguments.allowed_hosts)
        host, port = listener.getsockname()[:2]
        host = f"[{host}]" if ":" in host else host
        print(f"http://{host}:{port} shows the page; Ctrl-C ends it", file=sys.stderr, flush=True)
        try:
            serve(application(page, hosts, password), listener)
        finally:
            thread.close()


def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    parser = build_parser(prog or "python -m mlx_voxcpm2.app")
    return run(parser, lambda args: show(read_arguments(args)), argv)


if __name__ == "__main__":
    sys.exit(main())
