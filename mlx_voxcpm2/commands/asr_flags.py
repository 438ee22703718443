"""The flags of whoever listens: what a clip says, and whether speech says its text."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from .shell import Parser, flag

if TYPE_CHECKING:
    from ..recognition.recogniser import Recogniser
    from ..recognition.verification import Verification

logger = logging.getLogger("mlx_voxcpm2")


def add_transcribe_flags(parser: Parser) -> None:
    hear = parser.add_argument_group("hearing what is said (needs the extra asr)")
    flag(
        hear, "transcribe", action="store_true",
        help="let a recogniser hear what the clip says, where prompt_text is left out",
    )  # fmt: skip
    _add_recogniser_flag(hear)


def add_verify_flags(parser: Parser, transcribe: bool = False) -> None:
    """transcribe: the command has `add_transcribe_flags` too, with the recogniser's flag."""
    verify = parser.add_argument_group("checking that the text is heard (needs the extra asr)")
    flag(
        verify, "verify", action="store_true",
        help="let a recogniser listen, and speak again what it does not understand",
    )  # fmt: skip
    flag(
        verify, "verify_limit", type=float, default=0.2, metavar="PART",
        help="of the words that may be wrong, 0 to 1 (default %(default)s)",
    )  # fmt: skip
    flag(
        verify, "verify_retries", type=int, default=2, metavar="N",
        help="how often it is spoken again at most (default %(default)s)",
    )  # fmt: skip
    if not transcribe:
        _add_recogniser_flag(verify)


def _add_recogniser_flag(parser: argparse._ArgumentGroup) -> None:
    flag(
        parser, "asr_model", metavar="PATH_OR_REPO",
        help="the recogniser, any that mlx-audio loads; downloaded if it is not there (default "
        "whisper-large-v3-turbo, 1.6 GB)",
    )  # fmt: skip


def words_are_wanted(args: argparse.Namespace, clip: str | None, prompt_text: str | None) -> bool:
    """Whether a recogniser shall say what the clip says. All is checked that needs no recogniser.

    Raises ValueError or FileNotFoundError.
    """
    from ..recognition.recogniser import check_recognition_installed

    check_verify_flags(args)
    if not args.transcribe or prompt_text is not None:
        return False  # what is given is right
    if clip is None:
        raise ValueError("--transcribe hears a clip, and there is none; give one or leave it out")
    check_recognition_installed()
    return True


def check_verify_flags(args: argparse.Namespace) -> None:
    """Raises ValueError or FileNotFoundError, before anything is loaded."""
    from ..recognition.recogniser import check_recognition_installed
    from ..recognition.verification import check_limits
    from ..weights.hub import check_recogniser_name

    wanted = [name for name in ("transcribe", "verify") if hasattr(args, name)]
    if args.asr_model is not None:
        if not any(getattr(args, name) for name in wanted):
            flags = " or ".join(f"--{name}" for name in wanted)
            raise ValueError(f"asr_model is given, and nothing shall be heard; add {flags}")
        check_recogniser_name(args.asr_model)
    if getattr(args, "verify", False):
        check_limits(args.verify_limit, args.verify_retries)
        check_recognition_installed()


def chosen_recogniser(args: argparse.Namespace) -> Recogniser:
    from ..recognition.recogniser import DEFAULT_RECOGNISER, load_recogniser

    return load_recogniser(args.asr_model or DEFAULT_RECOGNISER, getattr(args, "language", None))


def heard_words(clip: str, recogniser: Recogniser, name: str) -> str:
    """What the clip says, which is reported, so that it can be given corrected."""
    from ..recognition.recogniser import transcript_of

    words = transcript_of(clip, recogniser, name)
    logger.warning("%s says: %s (if that is wrong, give it right by --prompt_text)", name, words)
    return words


def chosen_verification(
    args: argparse.Namespace, recogniser: Recogniser | None = None
) -> Verification | None:
    """recogniser: if it is loaded already."""
    from ..recognition.verification import Verification

    if not args.verify:
        return None
    recogniser = recogniser or chosen_recogniser(args)
    return Verification(recogniser, args.verify_limit, args.verify_retries)


def verification_settings(args: argparse.Namespace) -> list[object] | None:
    """What decides which take is kept, for the fingerprint of what is there already."""
    if not args.verify:
        return None
    path = os.path.expanduser(args.asr_model or "")
    name = str(Path(path).resolve()) if path and os.path.exists(path) else args.asr_model
    return [args.verify_limit, args.verify_retries, name]
