"""The command line: `python -m mlx_voxcpm2.app`, a web page to speak with."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..commands.model_flags import ModelChoice, add_model_flags
from ..commands.peer_flags import add_peer_flags
from ..commands.serve import ServeArguments
from ..commands.serving import bound_socket, check_server_installed, load_service, model_name
from ..commands.setting_flags import add_setting_flags, read_settings
from ..commands.shell import Parser, flag, messages_on_success, run
from ..settings import check_settings, setting
from ..speech.options import GenerationOptions
from ..voices.registry import VoiceRegistry

if TYPE_CHECKING:
    import socket

    from ..server.exchange import Service
    from ..server.request import Limits
    from .serving import PageWithApi

PASSWORD_VARIABLE = "MLX_VOXCPM2_PASSWORD"
GRACE_SECONDS = 1.0
"""When the page ends, browsers get this time for what they are receiving."""


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
    password: str | None = setting(
        None,
        "text",
        f"password of the page; other users see it here, but not in ${PASSWORD_VARIABLE}",
    )
    no_auth: bool = setting(
        False, "switch", "ask for no password although other machines can open the page"
    )
    asr_model: str | None = setting(
        None,
        "text",
        "recogniser that fills in the words of clips (needs the extra asr; default "
        "whisper-large-v3-turbo)",
        metavar="PATH_OR_REPO",
    )
    batch_size: int = setting(8, "integer", "requests generated at once", low=1)
    verbose: bool = False

    def __post_init__(self):
        from ..weights.hub import check_recogniser_name

        check_settings(self)
        if self.asr_model is not None:
            check_recogniser_name(self.asr_model)

    @property
    def word(self) -> str | None:
        """The password, of the flag or the environment."""
        return self.password or os.environ.get(PASSWORD_VARIABLE) or None

    def check_access(self) -> None:
        """Raise ValueError for a page that other machines can open without a password."""
        from ..server.access import is_loopback

        if not (is_loopback(self.host) or self.word or self.no_auth):
            raise ValueError(
                f"other machines can open the page at {self.host}; set {PASSWORD_VARIABLE} or "
                "--password, or --no_auth if anyone may use it"
            )

    @property
    def api(self) -> ServeArguments:
        """The API beside the page: its key is the one of `serve`, else the page's password."""
        given = ServeArguments(self.model, self.options, batch_size=self.batch_size)
        hosts = self.allowed_hosts
        return replace(given, host=self.host, allowed_hosts=hosts, api_key=given.key or self.word)


EXAMPLES = f"""
{{prog}} --model english
{{prog}} --model mlx-community/VoxCPM2-8bit --port 7861
{PASSWORD_VARIABLE}=secret {{prog}} --host 0.0.0.0
"""
COMMON = {
    "address": "host port allowed_hosts password no_auth".split(),
    "clips": ["asr_model"],
    "model": "model quantize adapter cfg_value inference_timesteps seed verbose".split(),
}
"""Flags that --help shows."""


def build_parser(prog: str | None = None) -> Parser:
    parser = Parser(
        COMMON,
        EXAMPLES,
        prog=prog,
        usage="%(prog)s [FLAG …]",
        description="Open a web page to speak with, and the API of `mlx-voxcpm2 serve` beside it. "
        "They are seen on this machine only, unless --host says otherwise. Flags may be spelled "
        "with - for _.",
    )
    address = parser.add_argument_group("address")
    add_setting_flags(address, AppArguments, ["host", "port"])
    names = "further names of the page in the addresses that browsers use (* for any)"
    flag(address, "allowed_hosts", nargs="+", default=[], metavar="NAME", help=names)
    add_setting_flags(address, AppArguments, ["password", "no_auth"])
    clips = parser.add_argument_group("clips")
    add_setting_flags(clips, AppArguments, ["asr_model"])
    add_setting_flags(parser.add_argument_group("requests"), AppArguments, ["batch_size"])
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
        verbose=args.verbose,
    )


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for the takes, deleted when the page ends."""
    with tempfile.TemporaryDirectory(prefix="mlx-voxcpm2-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def show(arguments: AppArguments) -> None:
    """Show the page until Ctrl-C or SIGTERM. Raises ValueError or OSError."""
    check_server_installed("app")
    arguments.check_access()
    with bound_socket(arguments.host, arguments.port) as listener, temporary_folder() as folder:
        from ..server.process import server_of

        with messages_on_success():
            service = load_service(arguments.api, VoiceRegistry(), limits_of(arguments))
        app = application(arguments, service, folder)
        server = server_of(app, GRACE_SECONDS, lambda: announce(listener), arguments.verbose)
        server.run([listener])
        service.thread.close()


def limits_of(arguments: AppArguments) -> Limits:
    """Limits of the API beside the page."""
    from ..server.request import Limits

    api = arguments.api
    return Limits(model_name(api.model.model), api.max_text_length, api.options)


def application(arguments: AppArguments, service: Service, folder: Path) -> PageWithApi:
    """The page, with its takes in a folder, and the API beside it."""
    from ..server import application as server
    from ..server.access import Access
    from .protection import Password
    from .routes import PageRoutes
    from .serving import PageWithApi, page_application
    from .speaker import Speaker

    api, word = arguments.api, arguments.word
    password = None if word is None else Password(word)
    access = Access(api.host, api.allowed_hosts, api_key=api.key)
    speaker, options = Speaker(service.thread, folder), asdict(arguments.options)
    name = service.limits.model
    page = PageRoutes(speaker, options, name, password, arguments.asr_model)
    return PageWithApi(
        page_application(page, access, password), server.application(service, access)
    )


def announce(listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    host = f"[{host}]" if ":" in host else host
    print(f"http://{host}:{port} shows the page; Ctrl-C ends it", file=sys.stderr, flush=True)


def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    parser = build_parser(prog or "python -m mlx_voxcpm2.app")
    return run(parser, lambda args: show(read_arguments(args)), argv)


if __name__ == "__main__":
    sys.exit(main())
