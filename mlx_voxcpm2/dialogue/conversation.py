"""Dialogues by VibeVoice, which speaks a conversation of up to four speakers as one."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..long_form.cues import Cue, cues_of, spans_by_pauses
from ..recognition.word_times import WordTime, aligned
from ..settings import check_settings, setting
from ..text.characters import speakable
from ..text.segments import PAUSE_MARK
from ..voices.inputs import VoiceInputs
from .script import Script, Turn, parse_script
from .speak import turns_in_words
from .voices import dialogue_voices, named

if TYPE_CHECKING:
    from ..audio.reading import AudioSource
    from ..speech.results import GenerationResult
    from .voices import VoiceSource

logger = logging.getLogger("mlx_voxcpm2")

MOST_SPEAKERS = 4


class VibeVoice(Protocol):
    """The method of the model that `mlx_voxcpm2.vibevoice.load` returns."""

    def generate(
        self, script: str, voices: Sequence[Any] = (), **settings: Any
    ) -> Iterator[GenerationResult]: ...


@dataclass(frozen=True)
class ConversationOptions:
    """Options of VibeVoice's `generate`. Raises ValueError for a value out of range.

    cfg_value: guidance. inference_timesteps: solver steps per frame of 133 ms. max_tokens: frames
    after which the speech is cut; None for the model's own limit. seed: None draws one.
    """

    cfg_value: float = setting(1.3, "number", "guidance", low=0.1, high=10)
    inference_timesteps: int = setting(10, "integer", "solver steps", low=1, high=100)
    max_tokens: int | None = setting(None, "integer", "frames after which it must end", low=1)
    seed: int | None = setting(
        None, "integer", "number that makes the same speech again", high=2**64 - 1
    )

    def __post_init__(self):
        check_settings(self)

    def with_seed(self) -> ConversationOptions:
        """Copy with a seed, drawn if there is none, short enough to be typed again."""
        return self if self.seed is not None else replace(self, seed=secrets.randbits(32))

    def given(self) -> dict[str, Any]:
        """Keyword arguments of `generate`."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Conversation:
    """A script in VibeVoice's form, with the clips of its first speakers."""

    script: str
    """A line `Speaker N: words` for each turn."""
    voices: tuple[AudioSource, ...]
    """Clips of the speakers 1, 2 …"""
    turns: tuple[Turn, ...]
    """Turns, with the words that are spoken."""


def conversation(
    script: Script, voices: Mapping[str, VoiceInputs], normalize: bool | str = False
) -> Conversation:
    """A script for VibeVoice; speakers with a clip have the first numbers.

    voices: of the speakers for whom one is given. normalize: see `GenerationOptions`. Logs what is
    left out. Raises ValueError for what the model can't do, and OSError for clips.
    """
    speakers = script.speakers
    if len(speakers) > MOST_SPEAKERS:
        last = sorted(speakers, key=script.first_lines.__getitem__)[MOST_SPEAKERS]
        raise ValueError(
            f"line {script.first_lines[last]}: {last} is one speaker too many, VibeVoice knows "
            f"{MOST_SPEAKERS}; use the engine voxcpm2"
        )
    clips = {name: _clip(name, voice) for name, voice in voices.items()}
    order = sorted(speakers, key=lambda name: name not in clips)
    numbers = {name: number for number, name in enumerate(order, 1)}
    turns = _plain_turns(script, normalize)
    lines = [f"Speaker {numbers[turn.speaker]}: {turn.text}" for turn in turns]
    given = tuple(clips[name] for name in order if name in clips)
    return Conversation("\n".join(lines), given, tuple(turns))


def _clip(speaker: str, voice: VoiceInputs) -> AudioSource:
    """Clip of a speaker. Raises ValueError for a voice that is no clip."""
    others = [name for name in voice.given() if name != "ref_audio"]
    if others or voice.ref_audio is None:
        what = {"voice": "a saved voice, made for VoxCPM2", "instruct": "a description"}
        found = what.get(others[0], others[0]) if others else "none"
        raise ValueError(
            f"voice of {speaker}: it is {found}, and VibeVoice needs a clip; give one, or leave "
            "the voice out"
        )
    return voice.with_clips_read().ref_audio


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

    script, voices: see `speak_dialogue`; the voices are clips. settings: those of the model's
    `generate`. Raises ValueError or FileNotFoundError at once, in one line.
    """
    if not isinstance(script, Script):
        script = parse_script(script, named(voices))
    talk = conversation(script, dialogue_voices(script, voices), normalize)
    return model.generate(talk.script, talk.voices, **settings)


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
