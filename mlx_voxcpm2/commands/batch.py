"""The command line: `mlx-voxcpm2 batch --input lines.jsonl --output_dir out`."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import one_line, options_spelled
from ..schema import check_integer
from ..speech.options import GenerationOptions
from ..text.segments import spoken_length
from ..voices.inputs import VoiceInputs
from .asr_flags import add_verify_flags, read_recogniser
from .batch_dialogues import speak_line
from .batch_lines import FIELDS, Defaults, Line, Problem
from .batch_plan import BatchArguments, Plan, make_plan
from .batch_summary import Totals
from .batch_voices import LineVoices
from .model_flags import ModelChoice, add_model_flags, load
from .peer_flags import add_peer_flags
from .progress import SpeechBar
from .setting_flags import add_setting_flags, read_settings, setting_values
from .shell import Parser, flag, given_text, messages_on_success, run

if TYPE_CHECKING:
    from ..model import VoxCPM2
    from ..recognition.best_of import BestOf
    from ..recognition.verification import Verification
    from ..speech.batch import Request
    from ..speech.results import GenerationResult

logger = logging.getLogger("mlx_voxcpm2")


EXAMPLES = """
{prog} --input lines.txt --output_dir out --voice anna
{prog} --input lines.jsonl --output_dir out --format mp3
"""
COMMON = {
    "texts and output": "input output_dir format batch_size verify best_of verbose".split(),
    "voice": "instruct ref_audio prompt_audio prompt_text voice normalize".split(),
    "model": "model quantize adapter cfg_value inference_timesteps seed".split(),
}
"""Flags that --help shows."""


def build_parser(prog: str | None = None) -> Parser:
    parser = Parser(
        COMMON,
        EXAMPLES,
        prog=prog,
        usage="%(prog)s --input FILE --output_dir FOLDER [FLAG …]",
        description="Speak many texts at once. The same command resumes a stopped run; under "
        "mlx.launch each process takes its share of the lines.",
    )
    texts = parser.add_argument_group("texts")
    fields = ", ".join(FIELDS)
    lines = f"a .txt file with a text per line, or JSON lines; their fields are {fields}"
    flag(texts, "input", required=True, metavar="PATH", help=lines)
    voice = parser.add_argument_group("voice of the lines that have none of their own")
    add_setting_flags(voice, VoiceInputs)
    flag(voice, "prompt_file", metavar="PATH", help="UTF-8 file with prompt_text")
    output = parser.add_argument_group("output")
    folder = "folder of the audio; a file of the same name and other settings is replaced"
    flag(output, "output_dir", required=True, metavar="PATH", help=folder)
    formats = "format of outputs without suffix: wav (default), flac, ogg, opus, mp3 or aiff"
    flag(output, "format", default="wav", help=formats)
    add_model_flags(parser)
    add_verify_flags(parser)
    together = "texts, or with --best_of takes, generated at once (default %(default)s)"
    flag(output, "batch_size", type=int, default=8, metavar="N", help=together)
    return add_peer_flags(parser, "batch")


def read_arguments(args: argparse.Namespace) -> BatchArguments:
    """The dataclasses of the flags. Raises ValueError or FileNotFoundError, in one line."""
    check_integer("batch_size", args.batch_size, 1, None)
    given = setting_values(VoiceInputs, vars(args))
    given["prompt_text"] = given_text("prompt_text", args.prompt_text, args.prompt_file)
    voice = {name: value for name, value in given.items() if value is not None}
    if "voice" in voice:
        VoiceInputs(**voice)  # raises what can't be combined; other fields the lines may complete
    recogniser = read_recogniser(args, may_be_unused=True)
    return BatchArguments(
        args.input,
        args.output_dir,
        args.format,
        args.batch_size,
        Defaults(voice, read_settings(GenerationOptions, args), recogniser.best_of),
        read_settings(ModelChoice, args),
        recogniser,
    )


class LineRequests:
    """Requests of lines, made when they are asked for, and the lines that could not be one."""

    def __init__(self, model: VoxCPM2, lines: Sequence[Line], voices: LineVoices):
        self.model, self.lines, self.voices = model, lines, voices
        self.dialogues = [line for line in lines if line.script is not None]
        """Lines of several requests, which `__iter__` leaves out."""
        self.requested: list[Line] = []
        """Lines by the index of their request."""
        self.failed: list[Problem] = []

    def __iter__(self) -> Iterator[Request]:
        for line in self.lines:
            if line.script is not None:
                continue
            try:
                with options_spelled():  # they are the line's fields
                    voice = self.voices.encoded(line, self.model)
                    request = self.model.request(line.text, options=line.options, **voice.given())
                request = replace(request, takes=line.best_of)
            except (ValueError, OSError) as error:
                self._fail(line, error)
                continue
            self.requested.append(line)
            yield request

    def _fail(self, line: Line, error: Exception) -> None:
        self.failed.append(Problem(line.number, str(error)))
        logger.error("%s", self.failed[-1])

    def spoken_dialogues(
        self,
        parallel: int,
        verify: Verification | None,
        best_of: BestOf | None,
        progress: Callable[[float], None],
    ) -> Iterator[tuple[Line, GenerationResult]]:
        """Each dialogue as one result, with `parallel` turns at once."""
        seconds = 0.0
        for line in self.dialogues:
            assert line.script is not None
            try:
                with options_spelled():
                    voices = self.voices.encoded_speakers(line, self.model)
                    before = seconds
                    result = speak_line(
                        self.model,
                        line.script,
                        voices,
                        line.options,
                        parallel,
                        verify,
                        _takes_of(line, best_of),
                        lambda spoken, before=before: progress(before + spoken),
                    )
            except (ValueError, OSError) as error:
                self._fail(line, error)
                continue
            seconds += result.duration
            yield line, result


def speak_lines(arguments: BatchArguments) -> None:
    """Speak the lines that no earlier run has spoken. Raises ValueError or OSError."""
    plan = make_plan(arguments)
    if not plan.lines:
        print(f"{plan.folder}: all {plan.finished} texts are there already", file=sys.stderr)
        return
    with plan.owned():
        _speak_lines(arguments, plan)


def _speak_lines(arguments: BatchArguments, plan: Plan) -> None:
    with messages_on_success():
        takes = max(line.best_of for line in plan.lines)
        verify, best_of = replace(arguments.recogniser, best_of=takes).checks()
        model = load(arguments.model)
    # Only requests with the same solver and steps are generated together.
    lines = sorted(plan.lines, key=lambda line: line.options.batch_key)
    requests = LineRequests(model, lines, plan.voices)
    totals, begin = Totals(), time.perf_counter()
    for line, result in _spoken(model, requests, arguments.batch_size, verify, best_of):
        _write(plan.folder / line.output, result)
        plan.summary.add(line, plan.fingerprints[line.number], result)
        totals.add(result)
    elapsed = time.perf_counter() - begin
    totals.report(plan.folder, plan.finished, plan.summary.path, elapsed)
    if failed := requests.failed:
        count = f"{len(failed)} of {len(lines)} lines"
        raise ValueError(f"{count} could not be spoken, the first: {failed[0]}")


def _takes_of(line: Line, best_of: BestOf | None) -> BestOf | None:
    """The choice among as many takes as the line asks for."""
    if best_of is None or line.best_of == 1:
        return None
    return replace(best_of, count=line.best_of)


def _spoken(
    model: VoxCPM2,
    requests: LineRequests,
    batch_size: int,
    verify: Verification | None,
    best_of: BestOf | None,
) -> Iterator[tuple[Line, GenerationResult]]:
    """Lines with their speech, in the order in which they end. Shows a bar on a terminal."""
    total, done = len(requests.lines), 0
    letters = sum(spoken_length(line.text) for line in requests.lines)
    with SpeechBar(letters=letters) as bar:
        bar.describe(f"0 of {total} texts")
        results = model.generate_batch(
            iter(requests), batch_size=batch_size, verify=verify, best_of=best_of, progress=bar
        )
        seconds = 0.0
        with results:
            texts = ((requests.requested[each.sequence_idx], each) for each in results)
            dialogues = requests.spoken_dialogues(
                batch_size, verify, best_of, lambda spoken: bar(seconds + spoken)
            )
            for line, result in chain(texts, dialogues):
                yield line, result
                done += 1
                seconds += result.duration if line.script is None else 0.0
                bar.finish(line.text, result.duration)
                bar.describe(f"{done} of {total} texts")


def _write(target: Path, result: GenerationResult) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise type(error)(
            f"{target.parent}: can't make this folder ({one_line(error)}); choose another place"
        ) from None
    result.save(target)


def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    parser = build_parser(prog or "python -m mlx_voxcpm2.commands.batch")
    return run(parser, lambda args: speak_lines(read_arguments(args)), argv)


if __name__ == "__main__":
    sys.exit(main())
