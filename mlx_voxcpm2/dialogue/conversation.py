"""Dialogues by VibeVoice, which speaks a conversation of up to four speakers as one."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..long_form.cues import Cue, cues_of
from ..long_form.pauses import spans_by_pauses
from ..recognition.word_times import WordTime, aligned
from ..text.characters import speakable
from ..text.segments import PAUSE_MARK
from ..vibevoice.script import MOST_SPEAKERS
from ..vibevoice.voices import Voice
from ..voices.inputs import VoiceInputs
from ..voices.saved import Voice as SavedVoice
from .script import Script, Turn, parse_script
from .speak import turns_in_words
from .voices import dialogue_voices, named

if TYPE_CHECKING:
    from ..speech.results import GenerationResult
    from ..vibevoice.model import VibeVoice
    from ..vibevoice.requests import VoiceInput
    from .voices import VoiceSource

logger = logging.getLogger("mlx_voxcpm2")


@dataclass(frozen=True, eq=False)
class Conversation:
    """A script in VibeVoice's form, with the voices of its first speakers."""

    script: str
    """A line `Speaker N: words` for each turn."""
    voices: tuple[VoiceInput, ...]
    """Clips or saved voices of the speakers 1, 2 …"""
    names: tuple[str, ...]
    """Names of the voices, for messages."""
    turns: tuple[Turn, ...]
    """Turns, with the words that are spoken."""


def conversation(
    script: Script, voices: Mapping[str, VoiceInputs], normalize: bool | str = False
) -> Conversation:
    """A script for VibeVoice; speakers with a voice have the first numbers.

    voices: of the speakers for whom one is given. normalize: see `GenerationOptions`. Logs what is
    left out. Raises ValueError for what the model can't do, and OSError for files.
    """
    speakers = script.speakers
    if len(speakers) > MOST_SPEAKERS:
        last = sorted(speakers, key=script.first_lines.__getitem__)[MOST_SPEAKERS]
        raise ValueError(
            f"line {script.first_lines[last]}: {last} is one speaker too many, VibeVoice knows "
            f"{MOST_SPEAKERS}; use the engine voxcpm2"
        )
    read = {name: _read(name, voice) for name, voice in voices.items()}
    order = sorted(speakers, key=lambda name: name not in read)
    numbers = {name: number for number, name in enumerate(order, 1)}
    turns = _plain_turns(script, normalize)
    lines = [f"Speaker {numbers[turn.speaker]}: {turn.text}" for turn in turns]
    given = [name for name in order if name in read]
    names = tuple(f"voice of {name}" for name in given)
    voices_read = tuple(read[name] for name in given)
    return Conversation("\n".join(lines), voices_read, names, tuple(turns))


def _read(speaker: str, voice: VoiceInputs) -> VoiceInput:
    """Clip or saved voice of a speaker, with its file read.

    Raises ValueError for a voice that VibeVoice can't have, and OSError.
    """
    given = voice.given()
    if {*given} not in ({"ref_audio"}, {"voice"}):
        others = [name for name in given if name != "ref_audio"]
        raise ValueError(
            f"voice of {speaker}: it has {others[0] if others else 'nothing'}, and VibeVoice takes "
            "a clip or its own saved voice only; give one, or leave the voice out"
        )
    try:
        if isinstance(voice.voice, SavedVoice):
            raise ValueError("it was made for VoxCPM2; make one from its clip with VibeVoice")
        if voice.voice is not None:
            return Voice.load(voice.voice)
        clip = voice.with_clips_read().ref_audio
        assert clip is not None
        return clip
    except (ValueError, OSError) as error:
        raise type(error)(f"voice of {speaker}: {error}") from None


def _plain_turns(script: Script, normalize: bool | str) -> list[Turn]:
    """Turns on one line each, without what VibeVoice would speak as words."""
    styled = sum(turn.style is not None for turn in script.turns)
    pauses = sum(len(PAUSE_MARK.findall(turn.text)) for turn in script.turns)
    if styled or pauses:
        logger.warning(
            "VibeVoice chooses style and pauses itself: left out are styles (%d), pauses (%d)",
            styled,
            pauses,
        )
    turns = list(script.turns)
    if normalize:
        turns = turns_in_words(turns, normalize if isinstance(normalize, str) else None)
    words = [speakable(PAUSE_MARK.sub(" ", turn.text)).split() for turn in turns]
    return [
        Turn(turn.speaker, " ".join(own), None, turn.line)
        for turn, own in zip(turns, words, strict=True)
    ]


def speak_conversation(
    model: VibeVoice,
    script: str | Script,
    voices: Mapping[str, VoiceSource] | Sequence[VoiceSource] | None = None,
    *,
    normalize: bool | str = False,
    **settings: Any,
) -> Iterator[GenerationResult]:
    """Speak a dialogue by VibeVoice, as `vibevoice.load` returns it.

    script, voices: see `speak_dialogue`; the voices are clips, or those of `VibeVoice.make_voice`.
    settings: of the model's `generate`. Raises ValueError or FileNotFoundError at once, in one
    line.
    """
    if not isinstance(script, Script):
        script = parse_script(script, named(voices))
    talk = conversation(script, dialogue_voices(script, voices), normalize)
    return model.generate(talk.script, talk.voices, names=talk.names, **settings)


def cues_of_turns(
    turns: Sequence[Turn],
    audio: np.ndarray,
    sample_rate: int,
    *,
    language: str | None = None,
    words: Sequence[WordTime] = (),
    shows_speakers: bool = True,
) -> list[Cue]:
    """Cues of a conversation, audio (samples,), with their speakers.

    A turn begins and ends at the pauses nearest to its share of the letters, or with the words
    that a recogniser understood, as the cues of `cues_of` do.
    """
    spans = spans_by_pauses([turn.text for turn in turns], audio, sample_rate)
    timed = aligned([turn.text for turn in turns], words)
    cues: list[Cue] = []
    for turn, (first, last), found in zip(turns, spans, timed, strict=True):
        if found:
            first, last = found[0].start, found[-1].end
        part = audio[round(first * sample_rate) : round(last * sample_rate)]
        own = [WordTime(each.text, each.start - first, each.end - first) for each in found]
        cues += cues_of(
            turn.text,
            part,
            sample_rate,
            first,
            language=language,
            words=own,
            speaker=turn.speaker if shows_speakers else "",
        )
    return cues
