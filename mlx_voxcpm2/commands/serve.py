"""The command line: `mlx-voxcpm2 serve`, an OpenAI-compatible speech server."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from dataclasses import dataclass

from ..settings import check_settings, setting
from ..speech.options import GenerationOptions
from .model_flags import ModelChoice, add_model_flags
from .peer_flags import add_peer_flags
from .serving import (
    KEY_VARIABLE,
    announce,
    bound_socket,
    check_access,
    check_server_installed,
    load_recogniser,
    load_service,
    model_name,
    pairs,
)
from .setting_flags import add_setting_flags, read_settings
from .shell import Parser, flag, messages_on_success, run


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
        for name in ("host", "api_key"):
            if getattr(self, name) == "":
                raise ValueError(f"{name} is empty; leave --{name} out, or give one")
        pairs("alias", self.alias)
        pairs("adapters", self.adapters)

    @property
    def key(self) -> str | None:
        """The key that requests must have, of the flag or the environment."""
        return self.api_key or os.environ.get(KEY_VARIABLE) or None


EXAMPLES = f"""
{{prog}} --voice anna
{{prog}} --alias alloy=anna --alias echo=ben
{KEY_VARIABLE}=secret {{prog}} --host 0.0.0.0
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
            recogniser = load_recogniser(arguments.asr_model)
            try:
                service = load_service(arguments, registry, limits)
            except BaseException:
                if recogniser is not None:
                    recogniser.close()
                raise
        logging.getLogger("mlx_voxcpm2.requests").setLevel(logging.INFO)
        app = application(service, access, recogniser)
        server = server_of(
            app, arguments.grace, lambda: announce(limits.model, listener), arguments.verbose
        )
        server.run([listener])
        service.thread.close()
        if recogniser is not None:
            recogniser.close()


def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    parser = build_parser(prog or "python -m mlx_voxcpm2.commands.serve")
    return run(parser, lambda args: serve(read_arguments(args)), argv)


if __name__ == "__main__":
    sys.exit(main())
