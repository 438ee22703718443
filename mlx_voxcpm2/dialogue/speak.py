"""Dialogues by VoxCPM2: turn by turn, each in the voice of its speaker."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..long_form.speak import SpokenSegment, speak_segments
from ..speech.keywords import merged_options, split_keywords, with_keywords
from ..speech.options import GenerationOptions, OptionKeywords
from ..text.normalization import language_of, normalized
from ..text.segments import PAUSE_MARK, Segment, split_text
from ..text.spoken import has_words
from ..voices.inputs import VoiceInputs
from .options import TurnKeywords, TurnOptions
from .script import Script, Turn, parse_script
from .voices import dialogue_voices, named, report_made_up

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..long_form.cache import SegmentCache
    from ..model import VoxCPM2
    from ..recognition.best_of import BestOf
    from ..recognition.verification import Verification
    from .voices import VoiceSource

_PAUSE_AT_END = re.compile(rf"{PAUSE_MARK.pattern}\s*\Z", re.IGNORECASE)


class DialogueKeywords(OptionKeywords, TurnKeywords, total=False):
    """Options of generation and of dialogues as keyword arguments, for type checkers."""


@with_keywords(GenerationOptions, TurnOptions)
def speak_dialogue(
    model: VoxCPM2,
    script: str | Script,
    voices: Mapping[str, VoiceSource] | Sequence[VoiceSource] | None = None,
    *,
    options: GenerationOptions | None = None,
    cache: SegmentCache | None = None,
    verify: Verification | None = None,
    best_of: BestOf | None = None,
    progress: Callable[[float], None] | None = None,
    **settings: Unpack[DialogueKeywords],
) -> Iterator[SpokenSegment]:
    """Speak a dialogue; yields its segments in order, with their speakers, each when it is ready.

        voices = {"Anna": "anna", "Ben": "ben.wav"}
        for segment in speak_dialogue(model, "Anna: Hello.\\nBen: Hi.", voices):
            file.write(segment.audio)

    script: lines such as `Anna: Hello.`, see `parse_script`. voices: by speaker, or in the order of
    the speakers, see `voices.voice_inputs`; a speaker without one gets a voice that the model makes
    up, the same in all turns. options and their keywords: see `GenerationOptions` and
    `TurnOptions`. cache, verify, best_of, progress: see `speak_long`.

    Raises ValueError, TypeError or FileNotFoundError at once, in one line.
    """
    sampling, dialogue = split_keywords(speak_dialogue, settings, GenerationOptions, TurnOptions)
    options, how = merged_options(options, sampling), TurnOptions(**dialogue)
    if not isinstance(script, Script):
        script = parse_script(script, named(voices))
    given = dialogue_voices(script, voices)
    report_made_up(script, given)
    segments = dialogue_segments(script, how, options.normalize)
    return speak_turns(
        model, script, segments, given, options, how, cache, verify, best_of, progress
    )


def speak_turns(
    model: VoxCPM2,
    script: Script,
    segments: list[Segment],
    voices: Mapping[str, VoiceInputs],
    options: GenerationOptions,
    how: TurnOptions,
    cache: SegmentCache | None = None,
    verify: Verification | None = None,
    best_of: BestOf | None = None,
    progress: Callable[[float], None] | None = None,
) -> Iterator[SpokenSegment]:
    """Speak what `dialogue_segments` made of a script. Arguments and errors: see `speak_dialogue`.

    voices: of the speakers for whom one is given.
    """
    everyone = {name: voices.get(name, VoiceInputs()) for name in script.speakers}
    options = replace(options, normalize=False)
    return speak_segments(model, segments, everyone, options, how, cache, verify, best_of, progress)


def dialogue_segments(
    script: Script, how: TurnOptions, normalize: bool | str = False
) -> list[Segment]:
    """Segments of all turns, with their speakers, styles and pauses. Raises ValueError.

    normalize: see `GenerationOptions`.
    """
    turns = list(script.turns)
    if normalize:
        named_language = normalize if isinstance(normalize, str) else how.language
        turns = turns_in_words(turns, named_language)
    if not turns:
        raise ValueError("the script has no words to speak; write what the speakers say")
    segments: list[Segment] = []
    for turn in turns:
        try:
            found = split_text(turn.text, how.segment_length, how.paragraph_pause, how.language)
        except ValueError as error:
            raise ValueError(f"line {turn.line}: {error}") from None
        if not _PAUSE_AT_END.search(turn.text) and turn is not turns[-1]:
            found[-1] = replace(found[-1], pause=how.turn_pause)
        segments += [replace(each, speaker=turn.speaker, style=turn.style) for each in found]
    return segments


def turns_in_words(turns: Sequence[Turn], language: str | None = None) -> list[Turn]:
    """Turns with numbers, dates and units in words; all are read in one language."""
    language = language or language_of(" ".join(PAUSE_MARK.sub(" ", turn.text) for turn in turns))
    found = [replace(turn, text=normalized(turn.text, language)) for turn in turns]
    return [turn for turn in found if has_words(turn.text)]
