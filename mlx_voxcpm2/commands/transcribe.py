"""The command line: `mlx-voxcpm2 transcribe interview.mp3 --format srt --output interview.srt`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ..settings import check_settings, setting
from .asr_flags import ASR_MODEL_HELP
from .environment import add_device_flag, add_hub_flags
from .setting_flags import add_setting_flags, read_settings
from .shell import Parser, flag, messages_on_success, run
from .transcripts import STANDARD_STREAM, Output, planned_outputs

if TYPE_CHECKING:
    from ..long_form.transcription import Transcription
    from ..recognition.protocols import Recogniser

logger = logging.getLogger("mlx_voxcpm2")

EXAMPLES = """
{prog} talk.mp3
{prog} talk.mp3 --output talk.srt
{prog} *.wav --format vtt --output subtitles/
{prog} talk.mp3 --asr_model mistralai/Voxtral-Mini-3B-2507
"""
CLI_FORMATS = ("txt", "srt", "vtt", "json")


@dataclass(frozen=True)
class TranscribeArguments:
    """Recordings to transcribe, and how. Raises ValueError or FileNotFoundError.

    Everything is checked that can be without loading the recogniser.
    """

    files: tuple[str, ...]
    """Paths, or "-" for standard input."""
    asr_model: str | None = setting(None, "text", ASR_MODEL_HELP, metavar="PATH_OR_REPO")
    language: str | None = setting(
        None, "text", "language of the recordings, such as de (default: detected)", metavar="CODE"
    )
    format: str | None = setting(
        None,
        "choice",
        "txt (default), srt or vtt subtitles, or json with times",
        choices=CLI_FORMATS,
    )
    output: str | None = setting(
        None,
        "text",
        "file, in its suffix's format, or folder with a file for each recording (default: "
        "standard output)",
        metavar="PATH",
    )

    def __post_init__(self):
        from ..recognition.recogniser import DEFAULT_RECOGNISER, check_recognition_installed
        from ..weights.hub import check_recogniser_name

        check_settings(self)
        recogniser = DEFAULT_RECOGNISER if self.asr_model is None else self.asr_model
        check_recogniser_name(recogniser)
        self.outputs()
        for file in self.files:
            _check_file(file)
        check_recognition_installed(recogniser)

    def outputs(self) -> list[Output]:
        """Where the transcript of each file goes. Raises ValueError or FileNotFoundError."""
        return planned_outputs(self.files, self.output, self.format)

    def load(self) -> Recogniser:
        from ..recognition.recogniser import DEFAULT_RECOGNISER, load_recogniser

        return load_recogniser(self.asr_model or DEFAULT_RECOGNISER, self.language)


def _check_file(file: str) -> None:
    if not file:
        raise ValueError("a recording's name is empty; give audio files")
    if file != STANDARD_STREAM:
        path = Path(file).expanduser()
        if path.is_dir():
            raise ValueError(f"{file} is a folder; give audio files")
        if not path.exists():
            raise FileNotFoundError(f"{file}: no such file; check the path")
    elif sys.stdin is None or sys.stdin.isatty():
        raise ValueError("standard input is not audio; redirect a file, or give its name")


def build_parser(prog: str | None = None) -> Parser:
    parser = Parser(
        None,
        EXAMPLES,
        prog=prog,
        usage="%(prog)s FILE … [FLAG …]",
        description="Transcribe recordings of up to three hours.",
    )
    files = "audio files, or - for standard input"
    parser.add_argument("files", nargs="+", metavar="FILE", help=files)
    add_setting_flags(parser, TranscribeArguments, ["language", "format", "output"])
    described = TranscribeArguments.__dataclass_fields__["asr_model"].metadata["setting"]
    flag(
        parser,
        "asr_model",
        "model",
        metavar=described.metavar,
        help=described.help,
    )
    add_device_flag(parser)
    add_hub_flags(parser)
    flag(parser, "verbose", action="store_true", help="report what is loaded and done")
    return parser


def read_arguments(args: argparse.Namespace) -> TranscribeArguments:
    """The dataclass of the flags. Raises ValueError or OSError, in one line."""
    return read_settings(TranscribeArguments, args, files=tuple(args.files))


def transcribe_files(arguments: TranscribeArguments) -> int:
    """Transcribe all files; those that can't be read are named, and the others are transcribed.

    All are looked at before the recogniser is loaded. Returns the exit status. Raises ValueError or
    OSError.
    """
    outputs, is_only = arguments.outputs(), len(arguments.files) == 1
    readable = _succeeding(outputs, _check_readable, is_only)
    done: list[Output] = []
    if readable:
        with messages_on_success():
            recogniser = arguments.load()
        act = partial(_transcribe, recogniser=recogniser, language=arguments.language)
        done = _succeeding(readable, act, is_only)
    if failed := len(outputs) - len(done):
        raise ValueError(f"{failed} of {len(outputs)} files could not be transcribed")
    return 0


def _succeeding(outputs: list[Output], act: Callable[[Output], None], raises: bool) -> list[Output]:
    """Outputs for which a step succeeds. The errors of the others are logged, or raised."""
    found = []
    for output in outputs:
        try:
            act(output)
        except (ValueError, OSError) as error:
            if raises or isinstance(error, BrokenPipeError):
                raise
            logger.error("%s", error)
        else:
            found.append(output)
    return found


def _check_readable(output: Output) -> None:
    """Raise ValueError or OSError if the recording's beginning can't be read."""
    from ..audio.decoding import RECORDING
    from ..audio.reading import check_audio

    if output.source != STANDARD_STREAM:
        check_audio(os.path.expanduser(output.source), output.name, RECORDING)


def _transcribe(output: Output, recogniser: Recogniser, language: str | None) -> None:
    from ..long_form.transcription import transcribe

    begin = time.perf_counter()
    with _progress(output.name) as progress:
        found = transcribe(
            _source(output.source),
            recogniser,
            language=language,
            has_times=output.has_times,
            name=output.name,
            progress=progress,
        )
    output.write(found)
    _report(found, output, time.perf_counter() - begin)


def _source(file: str) -> str | BinaryIO:
    return sys.stdin.buffer if file == STANDARD_STREAM else file


def _report(found: Transcription, output: Output, seconds: float) -> None:
    if not found.text:
        logger.warning("%s: no words were recognised in it", output.name)
    if output.file is not None:
        print(
            f"{output.file}: {found.duration:.1f} s transcribed in {seconds:.1f} s",
            file=sys.stderr,
        )


@contextmanager
def _progress(name: str) -> Iterator[Callable[[float, float], None]]:
    """Bar of the seconds that are transcribed, on standard error if that is a terminal."""
    from tqdm import tqdm

    form = "{desc}: {n:.0f} of {total:.0f} s |{bar:10}| {elapsed}, {remaining} left"
    with tqdm(
        total=1, desc=name, bar_format=form, disable=None, file=sys.stderr, leave=False
    ) as bar:

        def show(done: float, total: float) -> None:
            if not bar.disable:
                bar.n, bar.total = done, total
                bar.refresh()

        yield show


def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    parser = build_parser(prog or "python -m mlx_voxcpm2.commands.transcribe")
    return run(parser, lambda args: transcribe_files(read_arguments(args)), argv)


if __name__ == "__main__":
    sys.exit(main())
