"""The command line: `mlx-voxcpm2 voice add NAME --ref_audio clip.wav`, and others."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from typing import TYPE_CHECKING

from ..errors import one_line
from ..voices.folder import check_new_voice, existing_voice, voice_files, voices_folder
from ..voices.saved import Voice
from .asr_flags import add_transcribe_flags, chosen_recogniser, heard_words, words_are_wanted
from .model_flags import DEFAULT_MODEL, read_text
from .shell import Parser, flag, messages_on_success, run

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger("mlx_voxcpm2")


def build_parsers(prog: str | None = None) -> tuple[Parser, dict[str, Parser]]:
    """The command's, and those of what it does by name."""
    parser = Parser(
        prog=prog,
        description="Keep voices, each in one small file, and speak in them: generate --voice "
        f"NAME. They are in {voices_folder()}, or where MLX_VOXCPM2_VOICES says.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="add|list|show|remove")
    made = {
        name: actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        for name, text in (
            ("add", "keep the voice of a clip"),
            ("list", "list the voices that are kept"),
            ("show", "say all about one voice"),
            ("remove", "delete voices"),
        )
    }
    _add_flags(made["add"])
    for name in ("list", "show"):
        flag(made[name], "json", action="store_true", help="as JSON, for programs")
    made["show"].add_argument("name", metavar="NAME_OR_PATH")
    made["remove"].add_argument("names", metavar="NAME", nargs="+")
    return parser, made


def _add_flags(parser: Parser) -> None:
    parser.add_argument(
        "name", metavar="NAME_OR_PATH", help="its name, or a path that ends in .safetensors"
    )
    flag(parser, "ref_audio", "reference_audio", metavar="PATH", help="the clip, of 5 to 30 s")
    flag(parser, "prompt_text", help="what the clip says, to clone it the more closely")
    flag(parser, "prompt_file", metavar="PATH", help="a UTF-8 file with prompt_text")
    flag(parser, "prompt_audio", metavar="PATH", help="another clip, that prompt_text belongs to")
    flag(parser, "description", default="", help="a note, shown by list and show")
    flag(
        parser, "as_is", action="store_true",
        help="don't raise a quiet clip's level, don't cut silence off its ends",
    )  # fmt: skip
    flag(parser, "overwrite", action="store_true", help="replace the voice of that name")
    flag(
        parser, "model", "model_path", "hf_model_id", default=DEFAULT_MODEL,
        metavar="PATH_OR_REPO", help="a folder or hub repository (default %(default)s)",
    )  # fmt: skip
    flag(parser, "revision", help="of the hub repository")
    add_transcribe_flags(parser)


def add(args: argparse.Namespace) -> None:
    from ..audio.reading import read_audio
    from ..load import load_lazily
    from ..voices.inputs import VoiceInputs

    prompt_text = read_text(args, "prompt_text")
    if args.ref_audio is None and args.prompt_audio is None:
        raise ValueError("no clip; give --ref_audio")
    clip = args.prompt_audio or args.ref_audio
    hears = words_are_wanted(args, clip, prompt_text)
    said = "…" if hears else prompt_text
    VoiceInputs(None, None, clip if said is not None else args.prompt_audio, said)
    check_new_voice(args.name, args.overwrite)
    for name in ("ref_audio", "prompt_audio"):
        if getattr(args, name) is not None:
            read_audio(getattr(args, name), 16000, name)  # before a model is downloaded
    with messages_on_success():
        if hears:
            name = "ref_audio" if args.prompt_audio is None else "prompt_audio"
            prompt_text = heard_words(clip, chosen_recogniser(args), name)
        model = load_lazily(args.model, args.revision)
        voice = model.make_voice(
            args.ref_audio, args.prompt_audio, prompt_text, args.description, args.as_is
        )
        file = voice.save(args.name, args.overwrite)
    print(f"{file}: {_contents(voice)}", file=sys.stderr)


def list_voices(args: argparse.Namespace) -> None:
    """Those that can be read; what can't be is a line on stderr each."""
    voices = {}
    for file in voice_files():
        try:
            voices[file] = Voice.load(file)
        except (ValueError, OSError) as error:
            logger.warning("%s", one_line(error))
    if args.json:
        _print_json([_entry(file, voice) for file, voice in voices.items()])
        return
    if not voices:
        print(
            f"no voices in {voices_folder()}; `mlx-voxcpm2 voice add NAME --ref_audio CLIP` "
            "keeps one", file=sys.stderr,
        )  # fmt: skip
    width = max((len(file.stem) for file in voices), default=0)
    for voice in voices.values():
        note = f"; {_printable(voice.description)}" if voice.description else ""
        print(f"{_printable(voice.name):{width}}  {_contents(voice)}{note}")


def show(args: argparse.Namespace) -> None:
    file = existing_voice(args.name)
    entry = _entry(file, Voice.load(file))
    if args.json:
        _print_json(entry)
        return
    for name, value in entry.items():
        if value is not None and value != "":
            print(f"{name}: {_printable(str(value))}")


def remove(args: argparse.Namespace) -> None:
    """All of them or, if one is not there, none."""
    files = [existing_voice(name) for name in args.names]
    for file in files:
        if file.parent != voices_folder():  # it may be a model's
            raise ValueError(f"{file} is not in {voices_folder()}; delete it yourself")
    for file in dict.fromkeys(files):
        try:
            file.unlink()
        except OSError as error:
            raise type(error)(
                f"{file}: can't be removed ({one_line(error)}); check its permissions"
            ) from None
        print(f"{file}: removed", file=sys.stderr)


def _contents(voice: Voice) -> str:
    parts = []
    if voice.reference is not None:
        parts.append(f"reference {voice.reference_seconds:.1f} s")
    if voice.prompt is not None:
        parts.append(f"prompt {voice.prompt_seconds:.1f} s")
    return ", ".join(parts)


def _entry(file: Path, voice: Voice) -> dict:
    return {
        "name": voice.name,
        "file": str(file),
        "reference_seconds": round(voice.reference_seconds, 2),
        "prompt_seconds": round(voice.prompt_seconds, 2),
        "prompt_text": voice.prompt_text,
        "description": voice.description,
        "created": voice.created,
    }


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2))


def _printable(text: str) -> str:
    """On one line, without what would command a terminal: the file may be somebody else's."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


ACTIONS = {"add": add, "list": list_voices, "show": show, "remove": remove}


def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    parser, _ = build_parsers(prog or "python -m mlx_voxcpm2.commands.voice")
    return run(parser, lambda args: ACTIONS[args.action](args), argv)


if __name__ == "__main__":
    sys.exit(main())
