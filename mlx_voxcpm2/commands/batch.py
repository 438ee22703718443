"""The command line: `mlx-voxcpm2 batch --input lines.jsonl --output_dir out`."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import one_line
from ..voices.saved import Voice
from .asr_flags import add_verify_flags, check_verify_flags, chosen_verification
from .batch_job import Job, plan
from .batch_lines import CLIPS, FIELDS, Line, Problem
from .model_flags import add_model_flags, load
from .shell import Parser, flag, messages_on_success, run

if TYPE_CHECKING:
    import mlx.core as mx

    from ..model import VoxCPM2
    from ..recognition.verification import Verification
    from ..speech.batch import Request
    from ..speech.results import GenerationResult

logger = logging.getLogger("mlx_voxcpm2")


def build_parser(prog: str | None = None) -> Parser:
    parser = Parser(
        prog=prog,
        description="Speak many texts together. Run again, it goes on where it was stopped; under "
        "mlx.launch each process takes its share of the lines.",
    )
    texts = parser.add_argument_group("what to say")
    flag(texts, "input", required=True, metavar="PATH",
         help=f"JSON lines with {', '.join(FIELDS)} (all but text may be left out), or a .txt "
         "file with a text per line")  # fmt: skip
    voice = parser.add_argument_group("in which voice, where a line has none of its own")
    flag(voice, "instruct", "control", help="describe the voice or the manner")
    flag(voice, "ref_audio", "reference_audio", metavar="PATH", help="a voice to clone")
    flag(voice, "prompt_audio", metavar="PATH", help="speech to go on from, with its words:")
    flag(voice, "prompt_text", help="what prompt_audio says")
    flag(voice, "voice", metavar="NAME_OR_PATH", help="instead of clips, a voice that was kept")
    output = parser.add_argument_group("where to")
    flag(output, "output_dir", required=True, metavar="PATH",
         help="a folder; a file in it of the same name and other settings is replaced")  # fmt: skip
    flag(output, "format", default="wav",
         help="of outputs without suffix: wav (default), flac, ogg, opus, mp3 or aiff")  # fmt: skip
    add_model_flags(parser)
    add_verify_flags(parser)
    flag(parser, "batch_size", type=int, default=8,
         help="how many speak at once (default %(default)s)")  # fmt: skip
    return parser


class Speaker:
    """Makes requests of lines; a voice is read or encoded once, and kept until its last line is
    taken."""

    def __init__(self, model: VoxCPM2, lines: Iterable[Line]):
        self.model = model
        self.lines = list(lines)
        self.uses = Counter(source for line in self.lines for source in line.sources.items())
        self.voices: dict[tuple[str, Path], mx.array | Voice] = {}
        self.taken: list[Line] = []
        """By the number of their requests."""
        self.failed: list[Problem] = []

    def requests(self) -> Iterator[Request]:
        for line in self.lines:
            try:
                request = self._request(line)
            except (ValueError, OSError) as error:
                self.failed.append(Problem(line.number, str(error)))
                logger.error("%s", self.failed[-1])
                continue
            self.taken.append(line)
            yield request

    def _request(self, line: Line) -> Request:
        voices = {name: self._voice(name, path) for name, path in line.sources.items()}
        return self.model.request(
            line.text, instruct=line.instruct, prompt_text=line.prompt_text, options=line.options,
            **voices,
        )  # fmt: skip

    def _voice(self, name: str, path: Path) -> mx.array | Voice:
        source = name, path
        if source not in self.voices:
            is_kept = name == "voice"
            self.voices[source] = (
                Voice.load(path) if is_kept else self.model.encode_audio(path, CLIPS[name])
            )
        self.uses[source] -= 1
        return self.voices[source] if self.uses[source] else self.voices.pop(source)


@dataclass
class Tally:
    texts: int = 0
    cut: int = 0
    guarded: int = 0
    speech: float = 0
    """Seconds."""
    memory: float = 0
    """GB at the peak."""

    def add(self, result: GenerationResult) -> None:
        self.texts += 1
        self.cut += result.finish_reason != "stop"
        self.guarded += bool(result.guards)
        self.speech += result.samples / result.sample_rate
        self.memory = result.peak_memory_usage

    def report(self, job: Job, seconds: float) -> None:
        print(
            f"{job.folder}: {self.texts} texts, {self.speech:.2f} s of speech in {seconds:.2f} s, "
            f"{self.speech / seconds:.2f} times as fast as real time; {job.skipped} were there "
            f"already; peak memory {self.memory:.2f} GB",
            file=sys.stderr,
        )
        if self.guarded:
            print(
                f'guards: acted on {self.guarded} texts; see "guards" in {job.summary.path}',
                file=sys.stderr,
            )
        if self.cut:
            logger.warning(
                "%d of them were cut at their limit or fell silent, and may be incomplete: those "
                'whose finish_reason is not "stop" in %s', self.cut, job.summary.path,
            )  # fmt: skip


def speak_lines(args: argparse.Namespace) -> None:
    from ..schema import check_integer

    check_integer("batch_size", args.batch_size, 1, None)
    check_verify_flags(args)
    job = plan(args)
    if not job.lines:
        print(f"{job.folder}: all {job.skipped} texts are there already", file=sys.stderr)
        return
    with messages_on_success():
        verify = chosen_verification(args)
        model = load(args)
    # Only those of one kind can speak at once.
    lines = sorted(job.lines, key=lambda line: line.options.batch_key)
    speaker, tally, begin = Speaker(model, lines), Tally(), time.perf_counter()
    for line, result in _spoken(model, speaker, args.batch_size, verify):
        _write(job.folder / line.output, result)
        job.summary.add(line, job.settings[line.number], result)
        tally.add(result)
    tally.report(job, time.perf_counter() - begin)
    if speaker.failed:
        raise ValueError(
            f"{len(speaker.failed)} of {len(lines)} lines could not be spoken, the first: "
            f"{speaker.failed[0]}"
        )


def _spoken(
    model: VoxCPM2, speaker: Speaker, batch_size: int, verify: Verification | None
) -> Iterator[tuple[Line, GenerationResult]]:
    """As they end, with a bar on a terminal."""
    from tqdm import tqdm

    with tqdm(
        total=len(speaker.lines), unit="text", disable=None, file=sys.stderr, leave=False
    ) as bar:
        results = model.generate_batch(
            speaker.requests(), batch_size=batch_size, verify=verify,
            progress=lambda seconds: bar.set_postfix_str(f"{seconds:.1f} s of speech"),
        )  # fmt: skip
        with results:
            for result in results:
                yield speaker.taken[result.sequence_idx], result
                bar.update()


def _write(target: Path, result: GenerationResult) -> None:
    import numpy as np

    from ..audio.writing import write_audio

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise type(error)(
            f"{target.parent}: no folder can be made here ({one_line(error)}); choose another place"
        ) from None
    write_audio(target, np.array(result.audio), result.sample_rate)


def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    return run(build_parser(prog or "python -m mlx_voxcpm2.commands.batch"), speak_lines, argv)


if __name__ == "__main__":
    sys.exit(main())
