"""The command line: `mlx-voxcpm2 voice add NAME --ref_audio clip.wav`, and others."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import one_line, option
from ..settings import setting
from ..voices.folder import (
    check_new_voice,
    existing_voice,
    remove_voice,
    voice_files,
    voices_folder,
)
from ..voices.inputs import VoiceInputs
from ..voices.saved import Voice
from .asr_flags import RecogniserChoice, add_transcribe_flags, read_recogniser, transcript
from .environment import add_hub_flags
from .model_flags import ModelChoice
from .peer_flags import add_peer_flags
from .setting_flags import add_setting_flags, read_settings
from .shell import Parser, flag, given_text, messages_on_success, run

if TYPE_CHECKING:
    from pathlib import Path

    from ..audio.reading import AudioSource

logger = logging.getLogger("mlx_voxcpm2")


@dataclass(frozen=True, eq=False)
class AddArguments:
    """Voice to make of decoded clips, its name, and the model that encodes them."""

    name: str
    """A name, or a path that ends in .safetensors."""
    ref_audio: AudioSource | None
    prompt_audio: AudioSource | None
    prompt_text: str | None
    model: ModelChoice
    recogniser: RecogniserChoice
    lacks_transcript: bool
    """Whether the recogniser has to write prompt_text."""
    description: str = setting("", "text", "note, shown by list and show")
    as_is: bool = setting(False, "switch", "keep a quiet clip's level and the silence at its ends")
    overwrite: bool = setting(False, "switch", "replace the voice of that name")


def build_parsers(prog: str | None = None) -> tuple[Parser, dict[str, Parser]]:
    """The command's parser, and those of its actions by name."""
    parser = Parser(
        prog=prog,
        description="Save voices, each in one small file, to speak in them: generate --voice "
        f"NAME. They are in {voices_folder()}, or in $MLX_VOXCPM2_VOICES.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="add|list|show|remove")
    texts = {
        "add": "save the voice of a clip",
        "list": "list the saved voices",
        "show": "show the details of one voice",
        "remove": "delete voices",
    }
    made = {
        name: actions.add_parser(name, help=text, description=f"{text.capitalize()}.")
        for name, text in texts.items()
    }
    _add_flags(made["add"])
    for name in ("list", "show"):
        flag(made[name], "json", action="store_true", help="as JSON, for programs")
    made["show"].add_argument("name", metavar="NAME_OR_PATH")
    made["remove"].add_argument("names", metavar="NAME", nargs="+")
    return parser, made


def _add_flags(parser: Parser) -> None:
    help = "its name, or a path that ends in .safetensors"
    parser.add_argument("name", metavar="NAME_OR_PATH", help=help)
    changes = {
        "ref_audio": {"help": "clip of the voice, of 5 to 30 s"},
        "prompt_audio": {"help": "another clip, which prompt_text belongs to"},
        "prompt_text": {"help": "transcript of the clip, to clone it more closely"},
    }
    add_setting_flags(parser, VoiceInputs, changes, changes=changes)
    flag(parser, "prompt_file", metavar="PATH", help="UTF-8 file with prompt_text")
    add_setting_flags(parser, AddArguments)
    add_setting_flags(parser, ModelChoice, ["model", "revision"])
    add_hub_flags(parser)
    add_transcribe_flags(parser)
    add_peer_flags(parser, "voice add")


def read_add_arguments(args: argparse.Namespace) -> AddArguments:
    """The dataclasses of the flags, the clips decoded. Raises ValueError or OSError."""
    from ..audio.reading import read_channels

    words = given_text("prompt_text", args.prompt_text, args.prompt_file)
    if args.ref_audio is None and args.prompt_audio is None:
        raise ValueError("no clip; give --ref_audio")
    recogniser = read_recogniser(args)
    clip = args.prompt_audio or args.ref_audio
    lacks_transcript = recogniser.transcribes(clip, words)
    if not lacks_transcript:
        prompt = args.prompt_audio if words is None else clip
        VoiceInputs(prompt_audio=prompt, prompt_text=words)  # raises what can't be combined
    check_new_voice(args.name, args.overwrite)
    paths = {"ref_audio": args.ref_audio, "prompt_audio": args.prompt_audio}
    clips = {
        name: None if path is None else read_channels(path, option(name))
        for name, path in paths.items()
    }
    return read_settings(
        AddArguments,
        args,
        name=args.name,
        prompt_text=words,
        model=read_settings(ModelChoice, args),
        recogniser=recogniser,
        lacks_transcript=lacks_transcript,
        **clips,
    )


def add(arguments: AddArguments) -> None:
    """Make a voice and save it. Raises ValueError or OSError."""
    from ..load import load_lazily

    ref_audio, prompt_audio = arguments.ref_audio, arguments.prompt_audio
    prompt_text = arguments.prompt_text
    with messages_on_success():
        if arguments.lacks_transcript:
            name = "ref_audio" if prompt_audio is None else "prompt_audio"
            prompt_text = transcript(
                getattr(arguments, name), arguments.recogniser.load(), option(name)
            )
        model = load_lazily(arguments.model.model, arguments.model.revision)
        voice = model.make_voice(
            ref_audio, prompt_audio, prompt_text, arguments.description, arguments.as_is
        )
        file = voice.save(arguments.name, arguments.overwrite)
    print(f"{file}: {_contents(voice)}", file=sys.stderr)


def list_voices(as_json: bool) -> None:
    """Print the saved voices; those that can't be read are a line on standard error each."""
    voices = {}
    for file in voice_files():
        try:
            voices[file] = Voice.load(file)
        except (ValueError, OSError) as error:
            logger.warning("%s", one_line(error))
    if as_json:
        _print_json([_entry(file, voice) for file, voice in voices.items()])
        return
    if not voices:
        advice = "`mlx-voxcpm2 voice add NAME --ref_audio CLIP` saves one"
        print(f"no voices in {voices_folder()}; {advice}", file=sys.stderr)
    width = max((len(file.stem) for file in voices), default=0)
    for voice in voices.values():
        note = f"; {_printable(voice.description)}" if voice.description else ""
        print(f"{_printable(voice.name):{width}}  {_contents(voice)}{note}")


def show(name_or_path: str, as_json: bool) -> None:
    """Print the details of a voice. Raises ValueError or OSError."""
    file = existing_voice(name_or_path)
    entry = _entry(file, Voice.load(file))
    if as_json:
        _print_json(entry)
        return
    for name, value in entry.items():
        if value is not None and value != "":
            print(f"{name}: {_printable(str(value))}")


def remove(names: Sequence[str]) -> None:
    """Delete voices: all of them or, if one does not exist, none. Raises ValueError or OSError."""
    files = [existing_voice(name) for name in names]
    for file in files:
        if file.parent != voices_folder():  # it may be a model's
            raise ValueError(f"{file} is not in {voices_folder()}; delete it yourself")
    for file in dict.fromkeys(files):
        remove_voice(file)
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
    """The text on one line, without control characters: the file may be somebody else's."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def perform(args: argparse.Namespace) -> None:
    """Run the action that the arguments name."""
    if args.action == "add":
        add(read_add_arguments(args))
    elif args.action == "list":
        list_voices(args.json)
    elif args.action == "show":
        show(args.name, args.json)
    else:
        remove(args.names)


def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    parser, _ = build_parsers(prog or "python -m mlx_voxcpm2.commands.voice")
    return run(parser, perform, argv)


if __name__ == "__main__":
    sys.exit(main())
