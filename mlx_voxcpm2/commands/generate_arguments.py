"""Arguments of `generate`: its flags, and the dataclasses that they become."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

from ..long_form.options import LongFormOptions
from ..speech.options import GenerationOptions
from ..text.normalization import check_normalize, normalized
from ..text.segments import SEGMENT_LENGTH
from ..text.spoken import check_text
from ..voices.inputs import VoiceInputs
from .asr_flags import (
    RecogniserChoice,
    add_timestamps_flag,
    add_transcribe_flags,
    add_verify_flags,
    read_recogniser,
)
from .model_flags import ModelChoice, add_model_flags
from .output import OutputTargets
from .peer_flags import add_peer_flags
from .setting_flags import add_setting_flags, read_settings
from .shell import Parser, flag, given_text, standard_input
from .voice_flags import add_voice_flags, read_voice


@dataclass(frozen=True)
class GenerateArguments:
    """Arguments of `generate`: the text, the voice, the model, the outputs."""

    text: str
    voice: VoiceInputs
    options: GenerationOptions
    long_form: LongFormOptions
    model: ModelChoice
    recogniser: RecogniserChoice
    targets: OutputTargets
    lacks_transcript: bool = False
    """Whether the recogniser has to transcribe the prompt."""

    def with_words(self) -> GenerateArguments:
        """Arguments with the text in words, if `normalize` asks for it."""
        if not self.options.normalize:
            return self
        text = normalized(self.text, self.long_form.language)
        check_text(text)
        return replace(self, text=text, options=replace(self.options, normalize=False))


EXAMPLES = """
{prog} "Hello." --output hello.wav
{prog} "Hello." --instruct "a calm, low voice"
{prog} "Hello." --ref_audio clip.wav
{prog} --text_file book.txt --voice anna --output a.mp3
"""
COMMON = {
    "text and voice": "words text_file language normalize instruct ref_audio prompt_audio "
    "prompt_text transcribe voice".split(),
    "output": "output speed stream play subtitles save_voice parallel verify best_of "
    "verbose".split(),
    "model": "model quantize adapter cfg_value inference_timesteps seed".split(),
}
"""Flags that --help shows."""


def build_parser(prog: str | None = None, examples: str = EXAMPLES) -> Parser:
    parser = Parser(
        COMMON,
        examples,
        prog=prog,
        usage="%(prog)s [TEXT] [FLAG …]",
        description="Generate speech with VoxCPM2. Flags may be spelled with - for _.",
    )
    text = parser.add_argument_group("text")
    words = "words to speak, unless text is piped or in a file"
    text.add_argument("words", nargs="?", metavar="TEXT", help=words)
    flag(text, "text", help="the same, as a flag")
    flag(text, "text_file", metavar="PATH", help="UTF-8 file with the text; - for standard input")
    add_voice_flags(parser)
    add_setting_flags(parser.add_argument_group("output"), OutputTargets)
    _add_long_form_flags(parser)
    add_model_flags(parser)
    add_transcribe_flags(parser)
    add_verify_flags(parser, has_asr_model=True)
    add_timestamps_flag(parser)
    parser.set_defaults(makes_folder=False)
    return add_peer_flags(parser, "generate")


def _add_long_form_flags(parser: Parser) -> None:
    heading = parser.add_argument_group(
        "long texts: split at sentences, spoken in one voice; a stopped run is resumed"
    )
    length = {
        "default": None,
        "help": "letters of a segment at most; a Chinese character counts as three; 0 for no limit "
        f"(default {SEGMENT_LENGTH}; 0 with --stream or --play)",
    }
    crossfade = {
        "type": milliseconds,
        "metavar": "MS",
        "help": "overlap of neighbouring segments in milliseconds (0 to 1000; default 0)",
    }
    changes = {"segment_length": length, "crossfade": crossfade}
    add_setting_flags(heading, LongFormOptions, changes=changes)


def milliseconds(text: str) -> float:
    """Seconds of a number of milliseconds, 0 to 1000."""
    value = float(text)
    if not 0 <= value <= 1000:
        raise argparse.ArgumentTypeError(f"{value:g} is not a number from 0 to 1000")
    return value / 1000


def read_arguments(args: argparse.Namespace) -> GenerateArguments:
    """The dataclasses of the flags, checked as far as they can be without a model.

    Raises ValueError or OSError, in one line.
    """
    recogniser = read_recogniser(args)
    options = read_settings(GenerationOptions, args)
    length = args.segment_length
    if length is None:
        # Of a stream the first patch is heard at once; of segments, a whole one is waited for.
        length = 0 if args.stream or args.play else SEGMENT_LENGTH
    long_form = read_settings(LongFormOptions, args, segment_length=length)
    check_normalize(options.normalize, long_form.language)
    targets = read_settings(OutputTargets, args, makes_folder=args.makes_folder)
    if recogniser.timestamps and targets.subtitles is None:
        raise ValueError("--timestamps is given without subtitles; add --subtitles FILE")
    voice, lacks_transcript = read_voice(args, recogniser)
    model = read_settings(ModelChoice, args)
    text = given_text("text", _typed_text(args), args.text_file)
    text = standard_input("text", "--text") if text is None else text
    check_text(text, options.normalize)
    return GenerateArguments(
        text, voice, options, long_form, model, recogniser, targets, lacks_transcript
    )


def _typed_text(args: argparse.Namespace) -> str | None:
    """The text of the command line, as an argument or by its flag; None for another source."""
    if args.words is not None and args.text is not None:
        raise ValueError(f"{args.words!r} is given beside --text; leave one of the texts out")
    words = args.text if args.words is None else args.words
    return None if words == "-" else words
