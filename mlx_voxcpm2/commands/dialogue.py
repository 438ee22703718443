"""The command line: `mlx-voxcpm2 dialogue script.txt --voices anna=anna ben=ben.wav`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..dialogue.voices import dialogue_voices, report_made_up
from ..text.segments import spoken_length
from .cue_maker import CueMaker
from .dialogue_arguments import ENGINES, DialogueArguments, build_parser, read_arguments
from .long_text import LongText, LongTextPlan, segment_cache
from .model_flags import load
from .progress import LETTERS_PER_SECOND, SpeechBar
from .shell import messages_on_success, run
from .voice_flags import with_sources_read

if TYPE_CHECKING:
    from ..dialogue.script import Script, Turn
    from ..voices.inputs import VoiceInputs
    from .dialogue_conversation import ConversationSpeech

__all__ = ["build_parser", "main"]


def speak(arguments: DialogueArguments) -> None:
    """Speak a dialogue, or show how it is read. Raises ValueError or OSError."""
    if arguments.only_checks:
        voices = dialogue_voices(arguments.script, arguments.voices)
        print(description(arguments.script, voices))
        return
    with arguments.targets.owned():
        with messages_on_success(), _engine_named(arguments):
            speech = _started(arguments)
        speech.write()


def _started(arguments: DialogueArguments) -> LongText | ConversationSpeech:
    """Speech that is under way, after all checks and with its model loaded."""
    voices = dialogue_voices(arguments.script, arguments.voices)
    report_made_up(arguments.script, voices)
    if arguments.engine == "vibevoice":
        from .dialogue_conversation import ConversationSpeech

        return ConversationSpeech(arguments, voices)
    return _turn_by_turn(arguments, {name: _read(name, voice) for name, voice in voices.items()})


@contextlib.contextmanager
def _engine_named(arguments: DialogueArguments) -> Iterator[None]:
    """Has the error for a checkpoint that the engine does not speak with name flags."""
    from ..weights.checkpoint import OtherFamilyError

    try:
        yield
    except OtherFamilyError as error:
        title, needed = error.found.title, ENGINES[arguments.engine]
        advice = f"--model with a checkpoint such as {needed}"
        if title.lower() in ENGINES:
            advice = f"--engine {title.lower()}, or {advice}"
        raise ValueError(
            f"{arguments.model.model} is a checkpoint of {title}, which --engine "
            f"{arguments.engine} does not speak with; give {advice}"
        ) from None


def _read(speaker: str, voice: VoiceInputs) -> VoiceInputs:
    """A voice with its files read, before a model is loaded."""
    try:
        return with_sources_read(voice)
    except (ValueError, OSError) as error:
        raise type(error)(f"voice of {speaker}: {error}") from None


def _turn_by_turn(arguments: DialogueArguments, voices: dict[str, VoiceInputs]) -> LongText:
    """A dialogue by VoxCPM2."""
    from ..dialogue.speak import dialogue_segments, speak_turns

    script, how = arguments.script, arguments.how
    segments = dialogue_segments(script, how, arguments.options.normalize)
    cache = segment_cache(arguments.targets, arguments.model, arguments.recogniser)
    plan = LongTextPlan(segments, cache)
    verify, best_of = arguments.recogniser.checks()
    timer = arguments.recogniser.load_word_timer()
    model = load(arguments.model)
    options, bar = plan.with_seed(arguments.options), SpeechBar(plan.words)
    spoken = speak_turns(
        model, script, segments, voices, options, how, cache, verify, best_of, progress=bar
    )
    cues = CueMaker(how.language, timer, options.speed, shows_speakers=script.is_labelled)
    return LongText(spoken, plan, arguments.targets, model.sample_rate, options.seed, bar, cues)


def description(script: Script, voices: dict[str, VoiceInputs]) -> str:
    """How a script is read: its turns, what is left out, and who speaks in which voice."""
    lines = [(turn.line, f"line {turn.line}: {_shown(turn)}") for turn in script.turns]
    lines += [(number, f"line {number}: left out: {text}") for number, text in script.left_out]
    names = [f"{name}: {_source(voices.get(name))}" for name in script.speakers]
    seconds = spoken_length(script.words) / LETTERS_PER_SECOND
    counted = f"{_number(len(script.turns), 'turn')}, {_number(len(names), 'speaker')}"
    counted = f"{counted}, about {seconds:.0f} s"
    if not script.is_labelled:
        counted += (
            "\nno line begins with a speaker and a colon; names alone on their lines, as in film "
            "scripts, are speakers if --voices names them"
        )
    return "\n".join([*(line for _, line in sorted(lines)), counted, *names])


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _shown(turn: Turn) -> str:
    style = f" ({turn.style})" if turn.style else ""
    return f"{turn.speaker}{style}: {' '.join(turn.text.split())}"


def _source(voice: VoiceInputs | None) -> str:
    """A speaker's voice, in words."""
    if voice is None:
        return "a voice that the model makes up"
    return ", ".join(f"{name} {value}" for name, value in voice.given().items())


def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    parser = build_parser(prog or "python -m mlx_voxcpm2.commands.dialogue")
    return run(parser, lambda args: speak(read_arguments(args)), argv)


if __name__ == "__main__":
    sys.exit(main())
