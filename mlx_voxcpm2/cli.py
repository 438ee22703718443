"""The installed command, `mlx-voxcpm2 COMMAND …`."""

from __future__ import annotations

import importlib
import sys

# Command -> the module whose `main(argv, prog)` runs it, and a description.
COMMANDS = {
    "generate": ("mlx_voxcpm2.generate", "speak a text"),
    "batch": ("mlx_voxcpm2.commands.batch", "speak many texts, one per line of a file"),
    "serve": ("mlx_voxcpm2.commands.serve", "serve an API like OpenAI's"),
    "app": ("mlx_voxcpm2.app.__main__", "open a web page to speak with"),
    "voice": ("mlx_voxcpm2.commands.voice", "manage saved voices: add, list, show, remove"),
    "train": ("mlx_voxcpm2.train", "fine-tune on clips and their transcripts"),
    "doctor": ("mlx_voxcpm2.commands.doctor", "report on the installation, and test it"),
    "benchmark": ("mlx_voxcpm2.commands.benchmark", "measure how fast this machine speaks"),
    "convert": ("mlx_voxcpm2.convert.__main__", "write a checkpoint for MLX"),
}


def usage() -> str:
    lines = [f"  {name:10} {text}" for name, (_, text) in COMMANDS.items()]
    return "usage: mlx-voxcpm2 COMMAND [--help] …\n\n" + "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] in ("-h", "--help"):
        print(usage())
        return 0
    if argv and argv[0] == "--version":
        from . import __version__

        print(__version__)
        return 0
    if not argv or argv[0] not in COMMANDS:
        given = f"no command {argv[0]!r}" if argv else "no command given"
        print(f"mlx-voxcpm2: {given}; there are: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    module, _ = COMMANDS[argv[0]]
    return importlib.import_module(module).main(argv[1:], prog=f"mlx-voxcpm2 {argv[0]}")


if __name__ == "__main__":
    sys.exit(main())
