"""Records the flags of other programs from their own parsers, into peer_flags.json.

    python tests/golden/record_peer_flags.py VOXCPM_RELEASE VOXCPM_MAIN

Needs mlx-audio 0.6.2 and mlx-lm; the arguments are upstream's sources: the folder with cli.py of
`voxcpm` 2.0.3, and a checkout of its main branch. No PyTorch: only parsers are built.
"""

import argparse
import ast
import importlib
import importlib.util
import json
import sys
import types
from pathlib import Path
from unittest import mock


class Built(Exception):
    """A parser that is complete, instead of its result."""


def captured(main) -> argparse.ArgumentParser:
    """The parser with which a program's function would parse its arguments."""

    def stop(parser, *_, **__):
        raise Built(parser)

    with mock.patch.object(argparse.ArgumentParser, "parse_args", stop):
        try:
            main()
        except Built as built:
            return built.args[0]
    raise RuntimeError(f"{main} parses nothing")


def flags_of(parser: argparse.ArgumentParser) -> list[dict]:
    """Spellings of each flag, a value that it accepts (None for a switch), and its default."""
    kinds = {int: "3", float: "0.5"}
    found = []
    for action in parser._actions:
        if not action.option_strings or action.dest == "help":
            continue
        value = None if action.nargs == 0 else kinds.get(action.type, "words")
        if action.choices:
            value = str(next(iter(action.choices)))
        found.append({"flags": action.option_strings, "value": value})
    return found


def voxcpm(file: Path, release: str) -> dict[str, list[dict]]:
    """Flags of upstream's subcommands, and of its root."""
    timestamps = types.ModuleType("voxcpm.timestamps")
    timestamps.align_audio_file = None  # type: ignore[attr-defined]
    sys.modules |= {"voxcpm": types.ModuleType("voxcpm"), "voxcpm.timestamps": timestamps}
    spec = importlib.util.spec_from_file_location("peer_cli", file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    parser = module._build_parser()
    (commands,) = parser._subparsers._group_actions
    found = {f"voxcpm {release} {name}": flags_of(each) for name, each in commands.choices.items()}
    return found | {f"voxcpm {release} root": flags_of(parser)}


def parameters(file: Path, function: str) -> list[dict]:
    """Keyword parameters of a function that argbind makes flags of; a bool becomes a switch."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found = next(
        each
        for each in ast.walk(tree)
        if isinstance(each, ast.FunctionDef) and each.name == function
    )
    kinds = {each.arg: ast.unparse(each.annotation or each) for each in found.args.args}
    return [
        {"flags": [f"--{name}"], "value": None if kind == "bool" else "1"}
        for name, kind in kinds.items()
        if "dict" not in kind.lower()  # of the YAML file only
    ]


def script_flags(file: Path) -> list[dict]:
    """Flags of a script's parser, read from its source."""
    calls = [
        each
        for each in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(each, ast.Call) and getattr(each.func, "attr", "") == "add_argument"
    ]
    return [{"flags": [each.args[0].value], "value": "1"} for each in calls]  # type: ignore


def main(release: Path, checkout: Path) -> None:
    # Which mlx-audio imports for its player, and which needs PortAudio.
    sys.modules.setdefault("sounddevice", types.ModuleType("sounddevice"))
    import mlx_audio.convert
    import mlx_audio.server
    import mlx_audio.tts.generate
    from mlx_lm.lora import CONFIG_DEFAULTS, build_parser

    found = voxcpm(release / "cli.py", "2.0.3") | voxcpm(checkout / "src/voxcpm/cli.py", "main")
    found["voxcpm main app.py"] = script_flags(checkout / "app.py")
    script = checkout / "scripts/train_voxcpm_finetune.py"
    found["voxcpm main train"] = parameters(script, "train")
    found["mlx_audio.tts.generate"] = flags_of(captured(mlx_audio.tts.generate.parse_args))
    found["mlx_audio.convert"] = flags_of(captured(mlx_audio.convert.main))
    found["mlx_audio.server"] = flags_of(captured(mlx_audio.server.main))
    found["mlx_lm.convert"] = flags_of(importlib.import_module("mlx_lm.convert").configure_parser())
    found["mlx_lm.lora"] = flags_of(build_parser())
    keys = {"mlx_lm.lora": CONFIG_DEFAULTS}
    file = Path(__file__).parent / "peer_flags.json"
    text = json.dumps({"flags": found, "keys": keys}, indent=1)
    file.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
