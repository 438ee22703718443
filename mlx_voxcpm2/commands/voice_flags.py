"""The flags that give the voice, and the voice with its clips decoded."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from ..voices.inputs import VoiceInputs
from .setting_flags import add_setting_flags, read_settings
from .shell import Parser, flag, given_text

if TYPE_CHECKING:
    from .asr_flags import RecogniserChoice

TRANSCRIPT_TO_COME = "…"
"""Stands for the transcript of a clip that the recogniser will transcribe, once it is loaded."""


def add_voice_flags(parser: Parser) -> None:
    voice = parser.add_argument_group("voice")
    add_setting_flags(voice, VoiceInputs)
    flag(voice, "prompt_file", metavar="PATH", help="UTF-8 file with prompt_text")


def read_voice(args: argparse.Namespace, recogniser: RecogniserChoice) -> tuple[VoiceInputs, bool]:
    """The voice of the flags, with its files read, and whether its prompt is to be transcribed.

    Raises ValueError or OSError for what can't be read or combined.
    """
    words = given_text("prompt_text", args.prompt_text, args.prompt_file)
    lacks_transcript = recogniser.transcribes(args.prompt_audio, words)
    if lacks_transcript:
        words = TRANSCRIPT_TO_COME
    elif args.prompt_audio is not None and words is None:
        raise ValueError(
            "--prompt_audio is given without --prompt_text; give its transcript, or "
            "--transcribe to let a recogniser write it"
        )
    voice = read_settings(VoiceInputs, args, prompt_text=words)
    return with_sources_read(voice), lacks_transcript


def with_sources_read(voice: VoiceInputs) -> VoiceInputs:
    """A voice whose clips are (samples, rate), and whose saved voice is read, instead of paths.

    Raises ValueError or OSError, before a model is loaded.
    """
    from ..voices.saved import Voice

    voice = voice.with_clips_read()
    if voice.voice is None:
        return voice
    saved = Voice.load(voice.voice)
    VoiceInputs.of(saved, voice.instruct)  # raises what can't be combined
    return replace(voice, voice=saved)
