"""Flags of other programs, added to those of a command as the tables of `peers` say."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from typing import Any

from ..peers.names import PeerName
from ..peers.tables import TABLES
from .parser import Parser, spellings

PLACEHOLDER = "placeholder"
"""mlx-audio's README has it as --ref_text of VoxCPM2, which does not use it there."""


def add_peer_flags(parser: Parser, command: str) -> Parser:
    """Add them, without help; returns the parser. Call it when the command's own flags are there.

    Values that are not those of a flag here come into the dict `peers` of the arguments, and
    remarks for the user into the list `notes`.
    """
    own = {action.dest: action for action in parser._actions}
    for each in TABLES[command].values():
        names = [name for name in spellings(each.name) if name not in parser._option_string_actions]
        if not names:
            continue
        if (action := own.get(each.ours)) is not None:
            action.option_strings = [*action.option_strings, *names]
            parser._option_string_actions.update(dict.fromkeys(names, action))
        else:
            parser.add_argument(*names, action=PeerAction, described=each)
    parser.set_defaults(peers={}, notes=[])
    parser.translate = _TRANSLATIONS.get(command)
    return parser


class PeerAction(argparse.Action):
    """Flag of another program that is no flag here."""

    def __init__(
        self, option_strings: Sequence[str], dest: str, described: PeerName, **options: Any
    ):
        options |= {"default": argparse.SUPPRESS, "help": argparse.SUPPRESS}
        super().__init__(
            option_strings,
            argparse.SUPPRESS,
            nargs=None if described.has_value else 0,
            **options,
        )
        self.described = described

    def __call__(self, parser, namespace, values, option_string=None):
        each = self.described
        if each.has_value and values in each.neutral:
            return
        if each.effect == "refused":
            parser.exit(2, f"{parser.prog}: {option_string}: {each.text}\n")
        if each.effect == "ignored":
            namespace.notes = [*namespace.notes, f"{option_string} has no effect: {each.text}"]
        elif each.effect != "built in":
            value = values if each.has_value else True
            namespace.peers = namespace.peers | {each.ours or each.name: value}


def _translate_generate(args: argparse.Namespace) -> None:
    """Set our flags to what mlx-audio's ask for. Raises ValueError for what contradicts them."""
    theirs = args.peers
    if theirs.keys() & {"output_path", "file_prefix", "audio_format"}:
        if args.output is not None:
            raise ValueError("--output names the file; leave --output_path and the like out")
        args.output, args.makes_folder = _output(theirs), "output_path" in theirs
    if "ref_text" in theirs:
        _use_reference_text(args, theirs["ref_text"])


def _output(theirs: dict[str, str]) -> str:
    """Path of mlx-audio's output file."""
    number = "" if "join_audio" in theirs else "_000"
    name = f"{theirs.get('file_prefix', 'audio')}{number}.{theirs.get('audio_format', 'wav')}"
    return os.path.join(theirs.get("output_path", ""), name)


def _use_reference_text(args: argparse.Namespace, words: str) -> None:
    """Use the reference as the prompt, too, with its transcript. Raises ValueError."""
    if args.ref_audio is None:
        raise ValueError("--ref_text is the transcript of --ref_audio; give both")
    if args.prompt_audio is not None or args.prompt_text is not None or args.prompt_file:
        raise ValueError("--ref_text and a prompt are both given; leave one out")
    if words.strip().lower() == PLACEHOLDER:
        args.notes = [*args.notes, "--ref_text has no effect: it is no transcript"]
    elif args.instruct:
        note = "--ref_text has no effect: beside --instruct the clip gives the voice only"
        args.notes = [*args.notes, note]
    else:
        args.prompt_audio, args.prompt_text = args.ref_audio, words


_TRANSLATIONS: dict[str, Callable[[argparse.Namespace], None]] = {"generate": _translate_generate}
