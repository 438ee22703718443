"""Arguments of `dialogue`: its flags, and the dataclasses that they become."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..dialogue.options import TurnOptions
from ..dialogue.script import Script, parse_script
from ..dialogue.voices import named, split_voices
from ..documents import read_text
from ..settings import settings_of
from ..speech.options import GenerationOptions
from ..text.normalization import check_normalize
from .asr_flags import (
    RecogniserChoice,
    add_timestamps_flag,
    add_verify_flags,
    read_recogniser,
)
from .generate_arguments import milliseconds
from .model_flags import DEFAULT_MODEL, ModelChoice, add_model_flags
from .output import OutputTargets
from .setting_flags import add_setting_flags, read_settings, setting_values
from .shell import Parser, flag, standard_input

Engine = Literal["voxcpm2", "vibevoice"]
ENGINES: dict[Engine, str] = {"voxcpm2": DEFAULT_MODEL, "vibevoice": "microsoft/VibeVoice-1.5B"}
"""Engines, and the model of each that is used by default."""

EXAMPLES = """
{prog} script.txt --voices anna=anna ben=ben.wav
{prog} script.txt --voices 1="design: an old man" 2=anna
{prog} script.txt --check
"""
COMMON = {
    "script and voices": "script voices check language normalize".split(),
    "output": "output speed stream play subtitles turn_pause parallel verify best_of "
    "verbose".split(),
    "engine": "engine model quantize adapter cfg_value inference_timesteps seed".split(),
}
"""Flags that --help shows."""

_TARGETS = ("output", "stream", "play", "subtitles")
_OPEN = {*settings_of(TurnOptions), *settings_of(GenerationOptions), *settings_of(ModelChoice)}
"""Flags of which the default depends on the engine, or that only one engine has."""
_OF_CONVERSATIONS = ("cfg_value", "inference_timesteps", "max_tokens", "seed")
"""Options of VibeVoice."""
_OF_BOTH = {*_OF_CONVERSATIONS, *settings_of(ModelChoice), "normalize", "language"}


@dataclass(frozen=True)
class DialogueArguments:
    """Arguments of `dialogue`: the script, the voices, the model, the outputs."""

    script: Script
    voices: dict[str, str] | list[str]
    """In the notation of `voices.voice_inputs`; not looked for yet."""
    engine: Engine
    model: ModelChoice
    recogniser: RecogniserChoice
    targets: OutputTargets
    options: GenerationOptions
    """With VibeVoice, only `normalize` counts."""
    how: TurnOptions
    """With VibeVoice, only `language` counts."""
    conversation: Mapping[str, Any]
    """Options of VibeVoice that are given, by name."""
    only_checks: bool = False
    """Whether only to show how the script is read."""


def build_parser(prog: str | None = None) -> Parser:
    parser = Parser(
        COMMON,
        EXAMPLES,
        prog=prog,
        usage="%(prog)s SCRIPT [--voices SPEAKER=VOICE …] [FLAG …]",
        description="Speak a dialogue: lines such as Speaker 1: Hello. or Anna (sad): Hello. The "
        "same command resumes a stopped run.",
    )
    group = parser.add_argument_group("script and voices")
    script = "UTF-8 file with the script; - or none for standard input"
    group.add_argument("script", nargs="?", metavar="SCRIPT", help=script)
    voices = (
        "a saved voice, a clip or a description for each speaker; design: begins a description, "
        "and 1 is Speaker 1"
    )
    flag(group, "voices", nargs="+", default=[], metavar="SPEAKER=VOICE", help=voices)
    flag(group, "check", action="store_true", help="show how the script is read; speak nothing")
    output = parser.add_argument_group("output")
    add_setting_flags(output, OutputTargets, _TARGETS)
    turns = parser.add_argument_group("turns: spoken one by one, as long texts are (voxcpm2)")
    crossfade = {
        "type": milliseconds,
        "metavar": "MS",
        "help": "overlap of neighbouring segments in milliseconds (0 to 1000; default 0)",
    }
    add_setting_flags(turns, TurnOptions, changes={"crossfade": crossfade})
    engine = parser.add_argument_group("engine")
    what = "voxcpm2 (default), or vibevoice: up to four speakers as one, --cfg_value 1.3"
    flag(engine, "engine", default="voxcpm2", choices=[*ENGINES], metavar="NAME", help=what)
    add_model_flags(parser)
    add_verify_flags(parser)
    add_timestamps_flag(parser)
    for action in parser._actions:
        if action.dest in _OPEN:
            action.default = argparse.SUPPRESS
    return parser


def read_arguments(args: argparse.Namespace) -> DialogueArguments:
    """The dataclasses of the flags, checked as far as they can be without a model.

    Raises ValueError or OSError, in one line.
    """
    given = vars(args)
    _check_engine(given)
    model = read_settings(ModelChoice, args, model=given.get("model", ENGINES[args.engine]))
    is_one = args.engine == "vibevoice"
    conversation = {name: given[name] for name in _OF_CONVERSATIONS if name in given}
    options = {"normalize": given.get("normalize", False)} if is_one else given
    recogniser, how = read_recogniser(args), read_settings(TurnOptions, args)
    check_normalize(options.get("normalize", False), how.language)
    # A check writes nothing: it has no file that would be tested for writing.
    targets = OutputTargets(play=True) if args.check else read_settings(OutputTargets, args)
    if recogniser.timestamps and args.subtitles is None:
        raise ValueError("--timestamps is given without subtitles; add --subtitles FILE")
    voices = split_voices(args.voices)
    return DialogueArguments(
        _read_script(args.script, named(voices)),
        voices,
        args.engine,
        model,
        recogniser,
        targets,
        GenerationOptions(**setting_values(GenerationOptions, options)),
        how,
        conversation if is_one else {},
        args.check,
    )


def _check_engine(given: dict[str, Any]) -> None:
    """Raise ValueError for a flag that VibeVoice does not have."""
    if given["engine"] == "voxcpm2":
        return
    others = [name for name in _OPEN if name in given and name not in _OF_BOTH]
    others += ["verify"] if given.get("verify") else []
    others += ["best_of"] if given.get("best_of", 1) > 1 else []
    if others:
        raise ValueError(f"--{min(others)} works with --engine voxcpm2 only; leave it out")


def _read_script(path: str | None, names: tuple[str, ...]) -> Script:
    if path is None or path == "-":
        shown, text = "standard input", standard_input("script", "its file", strips=False)
    else:
        shown, text = path, read_text(path)
    try:
        return parse_script(text, names)
    except ValueError as error:
        raise ValueError(f"{shown}: {error}") from None
