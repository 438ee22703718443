"""The command line: `python -m mlx_voxcpm2.generate --text "Hello." --output hello.wav`."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import option
from .asr_flags import RecogniserChoice, transcript
from .generate_arguments import EXAMPLES, GenerateArguments, build_parser, read_arguments
from .long_text import LongText, long_text, plan_long_text
from .model_flags import load
from .output import Sample, save_voice
from .progress import SpeechBar
from .report import print_report
from .shell import messages_on_success, run

if TYPE_CHECKING:
    from ..model import VoxCPM2
    from ..recognition.best_of import BestOf
    from ..recognition.verification import Verification
    from ..speech.results import GenerationResult

__all__ = ["build_parser", "main"]

logger = logging.getLogger("mlx_voxcpm2")


def generate(arguments: GenerateArguments) -> None:
    """Speak a text, in one go or segment by segment. Raises ValueError or OSError."""
    with arguments.targets.owned():
        _generate(arguments)


def _generate(arguments: GenerateArguments) -> None:
    targets, recogniser = arguments.targets, arguments.recogniser
    with messages_on_success():
        arguments = arguments.with_words()
        plan = plan_long_text(arguments)
        if plan is None and targets.is_immediate:
            _check_stream(recogniser)
        arguments, verify, best_of = _with_recogniser(arguments)
        model = load(arguments.model)
        speech: ShortText | LongText
        if plan is None:
            speech = ShortText(model, arguments, verify, best_of)
        else:
            timer = recogniser.load_word_timer()
            speech = long_text(model, plan, arguments, verify, timer, best_of)
    sample = speech.write()
    if targets.save_voice is not None:
        file = save_voice(model, sample, arguments.voice.instruct, targets.save_voice)
        print(f"{file}: the voice is saved", file=sys.stderr)


def _check_stream(recogniser: RecogniserChoice) -> None:
    """Raise ValueError for what needs the whole speech before any of it is heard."""
    for name, is_given in (("verify", recogniser.verify), ("best_of", recogniser.best_of > 1)):
        if is_given:
            raise ValueError(
                f"--{name} needs the whole speech; leave out --stream and --play, or split the "
                "text by --segment_length"
            )


def _with_recogniser(
    arguments: GenerateArguments,
) -> tuple[GenerateArguments, Verification | None, BestOf | None]:
    """Arguments with the prompt's transcript, and how speech is checked, by one recogniser."""
    choice, voice = arguments.recogniser, arguments.voice
    if not (arguments.lacks_transcript or choice.verify or choice.best_of > 1):
        return arguments, None, None
    recogniser = choice.load()
    if arguments.lacks_transcript:
        words = transcript(voice.prompt_audio, recogniser, option("prompt_audio"))
        arguments = replace(arguments, voice=replace(voice, prompt_text=words))
    return arguments, choice.verification(recogniser), choice.choice_of_takes(recogniser)


class ShortText:
    """Generation of a text in one go: started when it is made, written by `write`."""

    def __init__(
        self,
        model: VoxCPM2,
        arguments: GenerateArguments,
        verify: Verification | None,
        best_of: BestOf | None = None,
    ):
        """Raises what `VoxCPM2.generate` raises."""
        self.model, self.arguments = model, arguments
        self._bar = SpeechBar(arguments.text)
        self._results = model.generate(
            arguments.text,
            options=arguments.options,
            stream=arguments.targets.is_immediate,
            progress=self._bar,
            verify=verify,
            best_of=best_of,
            **arguments.voice.given(),
        )

    def write(self) -> Sample:
        """Generate and write the audio, and report on it. Returns the speech."""
        import numpy as np

        results: list[GenerationResult] = []
        targets = self.arguments.targets
        with contextlib.closing(self._results), self._bar:
            with targets.open(self.model.sample_rate) as write:
                for result in self._results:
                    write(np.array(result.audio))
                    results.append(result)
        _report(results, targets.name, self._bar.first)
        audio = np.concatenate([np.array(result.audio_as_generated) for result in results])
        return Sample(audio, self.arguments.text, results[-1].finish_reason)


def _report(results: list[GenerationResult], name: str, first: float | None) -> None:
    """Report what was written. first: seconds until the first audio."""
    last = results[-1]
    speech = sum(result.duration for result in results)
    seconds = sum(result.processing_time_seconds for result in results)
    print_report(
        name,
        speech,
        seconds,
        [
            f"first audio after {first:.2f} s",
            f"peak memory {last.peak_memory_usage:.2f} GB",
            f"seed {last.seed}",
        ],
    )
    if len(last.takes) > 1:
        scores = ", ".join(f"{take.score:.3f} with seed {take.seed}" for take in last.takes)
        print(f"takes: {scores}; used is seed {last.seed}", file=sys.stderr)
    if last.heard is not None:
        print(f"recognised: {last.heard} ({last.error_rate:.0%} wrong)", file=sys.stderr)
    if last.guards:
        print(f"guards: {'; '.join(last.guards)}", file=sys.stderr)
    if last.finish_reason == "silence":
        logger.warning("the speech fell silent, and may be incomplete; try another --seed")
    if last.finish_reason == "length":
        logger.warning(
            "the speech was cut after %.2f s, its limit, and may be incomplete; try another "
            "--seed, shorter text, or a higher --max_tokens if it was given",
            speech,
        )


def main(
    argv: list[str] | None = None,
    prog: str | None = None,
    check: Callable[[GenerateArguments], None] | None = None,
    examples: str = EXAMPLES,
) -> int:
    """Run the command, or a variant of it.

    check: raises ValueError for what a variant refuses. examples: for its help.
    """
    parser = build_parser(prog or "python -m mlx_voxcpm2.generate", examples)

    def command(args: argparse.Namespace) -> None:
        arguments = read_arguments(args)
        if check is not None:
            check(arguments)
        generate(arguments)

    return run(parser, command, argv)


if __name__ == "__main__":
    sys.exit(main())
