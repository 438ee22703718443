# PYTHON_ARGCOMPLETE_OK
"""The installed command, `mlx-voxcpm2 COMMAND …`."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from .settings import similar

PROGRAM = "mlx-voxcpm2"

# Command -> the module whose `main(argv, prog)`, or other function, runs it; a description.
COMMANDS = {
    "generate": ("mlx_voxcpm2.generate", "speak a text"),
    "batch": ("mlx_voxcpm2.commands.batch", "speak many texts, one per line of a file"),
    "dialogue": ("mlx_voxcpm2.commands.dialogue", "speak a script of several speakers"),
    "transcribe": ("mlx_voxcpm2.commands.transcribe", "write down what recordings say"),
    "serve": ("mlx_voxcpm2.commands.serve", "serve an API like OpenAI's"),
    "app": ("mlx_voxcpm2.app.__main__", "open a web page to speak with"),
    "voice": ("mlx_voxcpm2.commands.voice", "manage saved voices: add, list, show, remove"),
    "train": ("mlx_voxcpm2.train", "fine-tune on clips and their transcripts"),
    "doctor": ("mlx_voxcpm2.commands.doctor", "report on the installation, and test it"),
    "benchmark": ("mlx_voxcpm2.commands.benchmark", "measure how fast this machine speaks"),
    "convert": ("mlx_voxcpm2.convert.__main__", "write a checkpoint for MLX"),
}
# Commands of OpenBMB's `voxcpm`.
UPSTREAM_COMMANDS = {
    "design": (
        "mlx_voxcpm2.commands.voxcpm:design",
        "generate, in a voice that the model makes up",
    ),
    "clone": ("mlx_voxcpm2.commands.voxcpm:clone", "generate, in the voice of a clip"),
    "validate": ("mlx_voxcpm2.commands.voxcpm:validate", "train --check: check a manifest"),
}
_ALL = COMMANDS | UPSTREAM_COMMANDS


def usage(prog: str = PROGRAM) -> str:
    def lines(commands: dict[str, tuple[str, str]]) -> str:
        return "\n".join(f"  {name:11} {text}" for name, (_, text) in commands.items())

    return (
        f"usage: {prog} COMMAND [FLAG …]\n\n"
        f'  {prog} generate "Hello." --output hello.wav\n'
        f"  {prog} COMMAND --help\n\n"
        f"{lines(COMMANDS)}\n\nas OpenBMB's voxcpm:\n{lines(UPSTREAM_COMMANDS)}"
    )


def main(argv: Sequence[str] | None = None, prog: str = PROGRAM) -> int:
    argv = list(sys.argv[1:] if argv is None else argv)
    if "_ARGCOMPLETE" in os.environ:
        argv = _words_to_complete()
    if not argv or argv[0] in ("-h", "--help", "--help-all", "help"):
        print(usage(prog))
        return 0
    if argv[0] == "--version":
        from . import __version__

        print(f"{PROGRAM} {__version__}")
        return 0
    if argv[0].startswith("-"):  # upstream's command line, without a command
        argv = ["batch" if {"--input", "-i"} & {*argv} else "generate", *argv]
    if argv[0] not in _ALL:
        print(f"{prog}: {_unknown(argv[0])}", file=sys.stderr)
        return 2
    module, _, function = _ALL[argv[0]][0].partition(":")
    command = getattr(importlib.import_module(module), function or "main")
    return command(argv[1:], prog=f"{prog} {argv[0]}")


def _unknown(name: str) -> str:
    if near := similar(name, _ALL):
        return f"there is no command {name}; did you mean {near}?"
    if " " in name.strip():
        return f'no command is given; to speak a text: {PROGRAM} generate "{name}"'
    return f"there is no command {name}; the commands are {', '.join(_ALL)}"


def _words_to_complete() -> list[str]:
    """The command whose flags a shell completes; ends the process where that is the command."""
    import argparse

    import argcomplete

    words = argcomplete.lexers.split_line(os.environ["COMP_LINE"], int(os.environ["COMP_POINT"]))[3]
    start = int(os.environ["_ARGCOMPLETE"])
    if len(words) > start and words[start] in _ALL:
        os.environ["_ARGCOMPLETE"] = str(start + 1)
        return [words[start]]
    parser = argparse.ArgumentParser(prog=PROGRAM)
    parser.add_argument("command", choices=[*_ALL])
    parser.add_argument("--version", action="store_true")
    argcomplete.autocomplete(parser)
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
