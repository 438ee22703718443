"""Requests for dialogues: a script, and a voice for each speaker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..dialogue.options import TurnOptions
from ..dialogue.script import Script, parse_script
from ..dialogue.speak import dialogue_segments
from ..dialogue.voices import described_by, named, voices_by_speaker
from ..text.segments import PAUSE_MARK, Segment
from ..text.spoken import spoken_text
from ..voices.inputs import VoiceInputs
from .body import DIALOGUE, TURNS
from .exchange import Exchange
from .limits import check_length, check_pauses
from .request import Limits, SpeechRequest, voice_name
from .tasks import SpeechTask

if TYPE_CHECKING:
    from .voices import NamedVoices


@dataclass(frozen=True)
class DialogueRequest(SpeechRequest):
    """Checked request for a dialogue. Its text is the words of the script."""

    script: Script = field(default_factory=lambda: Script(()))
    voices: Mapping[str, VoiceInputs] = field(default_factory=dict)
    """By speaker: a name among the server's voices, or a description."""
    turns: TurnOptions = field(default_factory=TurnOptions)

    @classmethod
    def parse(cls, body: object, limits: Limits, needs_text: bool = True) -> DialogueRequest:
        """Parse decoded JSON. Raises ValueError, in one line, with the number of the line."""
        fields, ignored = DIALOGUE.read(body, limits.is_strict)
        text, given = fields["script"], fields.get("voices")
        shared = cls.shared({**fields, "input": text}, limits)
        turns = TurnOptions(**{name: fields[name] for name in TURNS if name in fields})
        script = parse_script(text, named(given))
        check_turns(script)
        shared |= {"text": script.words, "ignored": ignored}
        voices = _voices(script, given)
        check_length(text, [voice.instruct for voice in voices.values()], limits.text_length)
        return cls(**shared, script=script, voices=voices, turns=turns)

    def segments(self, text: str | None = None) -> tuple[Segment, ...]:
        segments = tuple(dialogue_segments(self.script, self.turns, self.options.normalize))
        check_pauses(segments)
        return segments

    @property
    def shows_speakers(self) -> bool:
        return self.script.is_labelled


def check_turns(script: Script) -> None:
    """Raise ValueError, with the number of the line, for a turn that can't be spoken."""
    for turn in script.turns:
        try:
            spoken_text(PAUSE_MARK.sub(" ", turn.text), turn.style)
        except ValueError as error:
            raise ValueError(f"line {turn.line}: {error}") from None


def _voices(script: Script, given: Any) -> dict[str, VoiceInputs]:
    """Voices as a request gives them: names, which are never paths, and descriptions."""

    def inputs(voice: object) -> VoiceInputs:
        name = voice_name(voice)
        if name is None:
            raise ValueError("it is empty; give a name, or design: DESCRIPTION")
        description = described_by(name)
        return VoiceInputs(description) if description else VoiceInputs(voice=name)

    return _by_speaker(voices_by_speaker(script, given), inputs)


def _by_speaker(
    voices: Mapping[str, Any], function: Callable[[Any], VoiceInputs]
) -> dict[str, VoiceInputs]:
    """Results of a function for all voices. Its errors name the speaker."""
    found = {}
    for speaker, voice in voices.items():
        try:
            found[speaker] = function(voice)
        except ValueError as error:
            raise ValueError(f"voice of {speaker}: {error}") from None
    return found


class DialogueExchange(Exchange):
    """The answer to a request for a dialogue."""

    fields = DIALOGUE

    def parsed(self, data: object) -> DialogueRequest:
        request = DialogueRequest.parse(data, self.service.limits)
        names = [voice.voice or voice.instruct for voice in request.voices.values()]
        self.record.voice = ", ".join(map(str, names)) or "default"

        def check(voice: VoiceInputs) -> VoiceInputs:
            self.service.voices.check_name(voice.voice and str(voice.voice))
            return voice

        _by_speaker(request.voices, check)
        return request

    async def task(self, request: SpeechRequest) -> SpeechTask:
        assert isinstance(request, DialogueRequest)
        segments = await asyncio.to_thread(request.segments)
        voices = await named_voices(self.service.voices, request.voices)
        options = replace(request.options, normalize=False)
        return SpeechTask(segments, options, adapter=request.adapter, speakers=voices)


async def named_voices(
    voices: NamedVoices, wanted: Mapping[str, VoiceInputs]
) -> dict[str, VoiceInputs]:
    """Voices with the clips of those that are named. Raises ValueError or OSError."""
    found = {}
    for speaker, voice in wanted.items():
        name = voice.voice and str(voice.voice)
        found[speaker] = await voices.inputs(name, voice.instruct) if name else voice
    return found
