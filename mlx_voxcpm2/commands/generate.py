"""The command line: `python -m mlx_voxcpm2.generate --text "Hello." --output hello.wav`."""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from .asr_flags import (
    add_transcribe_flags,
    add_verify_flags,
    chosen_recogniser,
    chosen_verification,
    heard_words,
    words_are_wanted,
)
from .long_text import LongText, add_long_text_flags
from .model_flags import add_model_flags, load, read_text
from .option_flags import chosen_options
from .output import Progress, Sinks
from .shell import Parser, flag, messages_on_success, run

if TYPE_CHECKING:
    import numpy as np

    from ..model import VoxCPM2
    from ..speech.results import ResultIterator

DEFAULT_OUTPUT = "speech.wav"

logger = logging.getLogger("mlx_voxcpm2")


def build_parser(prog: str | None = None) -> Parser:
    parser = Parser(
        prog=prog,
        description="Speak a text with VoxCPM2. Flags may be spelled with - for _.",
    )
    text = parser.add_argument_group("what to say (else standard input is read)")
    flag(text, "text", help="the words")
    flag(text, "text_file", metavar="PATH", help="a UTF-8 file that holds them")
    voice = parser.add_argument_group("in which voice")
    flag(voice, "instruct", "control", help="describe the voice or the manner")
    flag(voice, "ref_audio", "reference_audio", metavar="PATH", help="a voice to clone")
    flag(voice, "prompt_audio", metavar="PATH", help="speech to go on from, with its words:")
    flag(voice, "prompt_text", help="what prompt_audio says")
    flag(voice, "prompt_file", metavar="PATH", help="a UTF-8 file with prompt_text")
    flag(
        voice, "voice", metavar="NAME_OR_PATH",
        help="instead of clips, a voice that `mlx-voxcpm2 voice add` or --save_voice kept",
    )  # fmt: skip
    flag(voice, "save_voice", metavar="NAME_OR_PATH", help="keep the voice that is heard")
    add_transcribe_flags(parser)
    output = parser.add_argument_group("where to")
    flag(
        output, "output", metavar="PATH",
        help=f"wav, flac, ogg, opus, mp3 or aiff by its suffix, or - for standard output "
        f"(default {DEFAULT_OUTPUT}, none with --play)",
    )  # fmt: skip
    flag(output, "stream", action="store_true", help="write as it is spoken (wav)")
    flag(output, "play", action="store_true", help="play as it is spoken")
    add_long_text_flags(parser)
    add_model_flags(parser)
    add_verify_flags(parser, transcribe=True)
    return parser


def read_standard_input() -> str:
    if sys.stdin is None:
        raise ValueError("no text; give --text")
    if sys.stdin.isatty():
        print("Type the text, then Ctrl-D:", file=sys.stderr)
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise ValueError("standard input is not UTF-8 text; give --text") from None


def check(args: argparse.Namespace) -> tuple[str, LongText | None, Sinks]:
    """All that can be found wrong before a model is loaded; returns the text, what is to be done
    with it if it is long, and the sinks."""
    from ..audio.reading import read_audio
    from ..text.normalization import normalized
    from ..text.spoken import spoken_text
    from ..voices.folder import check_new_voice
    from ..voices.inputs import VoiceInputs
    from ..voices.saved import Voice

    args.prompt_text = read_text(args, "prompt_text")
    text = read_text(args)
    if text is None:
        text = read_standard_input()
    if args.normalize:
        text, args.normalize = normalized(text, args.language), False
    spoken_text(text, args.instruct)
    args.transcribe = words_are_wanted(args, args.prompt_audio, args.prompt_text)
    if args.prompt_audio is not None and args.prompt_text is None and not args.transcribe:
        raise ValueError(
            "prompt_audio is given without prompt_text; give the words that it speaks, or "
            "--transcribe to let a recogniser hear them"
        )
    said = "…" if args.transcribe else args.prompt_text  # heard when all else is right
    clips = args.ref_audio, args.prompt_audio, said
    VoiceInputs(args.instruct if args.voice is None else None, *clips, args.voice)
    if args.voice is not None:
        args.voice = Voice.load(args.voice)
        VoiceInputs.of(args.voice, args.instruct)  # raises what can't be combined
    if args.save_voice is not None:
        check_new_voice(args.save_voice)
    chosen_options(args)
    output = args.output or (None if args.play else DEFAULT_OUTPUT)
    if args.stream and output is None:
        raise ValueError("--stream writes a file as it is spoken; give --output (or - )")
    sinks = Sinks(output, args.stream, args.play)
    for name in ("ref_audio", "prompt_audio"):
        if getattr(args, name) is not None:
            # Its own rate does not matter: this only finds out whether it can be read.
            read_audio(getattr(args, name), 16000, name)
    long_text = LongText.planned(text, args, output)
    if args.verify and long_text is None and (args.stream or args.play):
        raise ValueError("--verify hears the whole; leave out --stream and --play, or --verify")
    return text, long_text, sinks


def listen(args: argparse.Namespace) -> None:
    """Hears what the prompt says, and has the recogniser ready that will check the speech."""
    recogniser = chosen_recogniser(args) if args.transcribe or args.verify else None
    if args.transcribe:
        args.prompt_text = heard_words(args.prompt_audio, recogniser, "prompt_audio")
    args.verification = chosen_verification(args, recogniser)


def generate(args: argparse.Namespace) -> None:
    with messages_on_success():
        text, long_text, sinks = check(args)
        listen(args)
        model = load(args)
        begin = start if long_text is None else long_text.start
        speech = begin(model, text, args)
    if long_text is None:
        speak(model, speech, text, sinks, args)
        return
    with sinks.open(model.sample_rate) as take:
        long_text.speak(speech, take)
    long_text.finish()
    if args.save_voice is not None:
        keep_voice(model, *long_text.sample, args)


def start(model: VoxCPM2, text: str, args: argparse.Namespace) -> tuple[ResultIterator, Progress]:
    """Of a text that is spoken in one go."""
    progress = Progress()
    results = model.generate(
        text, instruct=args.instruct, ref_audio=args.ref_audio,
        prompt_audio=args.prompt_audio, prompt_text=args.prompt_text, voice=args.voice,
        stream=args.stream or args.play, progress=progress, verify=args.verification,
        **asdict(chosen_options(args)),
    )  # fmt: skip
    return results, progress


def speak(
    model: VoxCPM2,
    speech: tuple[ResultIterator, Progress],
    text: str,
    sinks: Sinks,
    args: argparse.Namespace,
) -> None:
    import numpy as np

    results, progress = speech
    done = []
    try:
        with sinks.open(model.sample_rate) as take:
            for result in results:
                take(np.array(result.audio))
                done.append(result)
    finally:
        results.close()
        progress.close()
    report(done, sinks.output, progress.first)
    if args.save_voice is not None:
        whole = np.concatenate([np.array(result.audio) for result in done])
        keep_voice(model, whole, text, done[-1].finish_reason, args)


def keep_voice(
    model: VoxCPM2, speech: np.ndarray, text: str, reason: str, args: argparse.Namespace
) -> None:
    """Saves the voice of what was spoken. reason: why it ended."""
    from ..voices.making import voice_of_speech

    voice = voice_of_speech(
        model.clip_encoder, (speech, model.sample_rate), text, reason, args.instruct
    )
    print(f"{voice.save(args.save_voice)}: the voice is kept", file=sys.stderr)


def report(results: list, output: str | None, first: float | None) -> None:
    last = results[-1]
    speech = sum(result.samples for result in results) / last.sample_rate
    seconds = sum(result.processing_time_seconds for result in results)
    name = {None: "played", "-": "standard output"}.get(output, output)
    print(
        f"{name}: {speech:.2f} s of speech in {seconds:.2f} s, {speech / seconds:.2f} times as "
        f"fast as real time; first sound after {first:.2f} s; peak memory "
        f"{last.peak_memory_usage:.2f} GB; seed {last.seed}",
        file=sys.stderr,
    )
    if last.heard is not None:
        print(f"heard: {last.heard} ({last.error_rate:.0%} wrong)", file=sys.stderr)
    if last.guards:
        print(f"guards: {'; '.join(last.guards)}", file=sys.stderr)
    if last.finish_reason == "silence":
        logger.warning("the speech fell silent, and may be incomplete; try another --seed")
    if last.finish_reason == "length":
        logger.warning(
            "the speech was cut after %d patches, its limit, and may be incomplete; try another "
            "--seed, or shorter text", sum(result.token_count for result in results),
        )  # fmt: skip


def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    parser = build_parser(prog or "python -m mlx_voxcpm2.generate")
    return run(parser, generate, argv)


if __name__ == "__main__":
    sys.exit(main())
