"""Dialogues as the page sends them: a script, and a choice of voice for each speaker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ..dialogue.script import Script, parse_script
from ..dialogue.speak import dialogue_segments
from ..server.dialogue import check_turns
from ..server.limits import check_pauses
from ..server.tasks import SpeechTask
from ..voices.inputs import VoiceInputs
from .inputs import (
    ClipOf,
    FieldError,
    PageRequest,
    VoiceChoice,
    check_length,
    form_of,
    parse_settings,
)
from .warnings import logged_warnings


@dataclass(frozen=True, eq=False)
class PageDialogue(PageRequest):
    """Checked request of the page for a dialogue. Its text is the script as it was written."""

    script: Script = field(default_factory=lambda: Script(()))
    choices: Mapping[str, VoiceChoice] = field(default_factory=dict)
    """By speaker."""
    voices: Mapping[str, VoiceInputs] = field(default_factory=dict)
    """By speaker."""

    @property
    def words(self) -> str:
        return self.script.words

    @property
    def mode(self) -> str:
        return "dialogue"

    @property
    def shows_speakers(self) -> bool:
        return self.script.is_labelled

    def task(self) -> SpeechTask:
        return replace(super().task(), speakers=self.voices)

    def without_clips(self) -> PageRequest:
        return replace(self, voices={}, segments=())

    def as_json(self) -> dict[str, object]:
        choices = {name: asdict(choice) for name, choice in self.choices.items()}
        label = ", ".join(self.script.speakers)
        return {**super().as_json(), "voice_label": label, "voices": choices}

    @classmethod
    def parse(
        cls, body: object, clips: ClipOf, defaults: Mapping[str, object] | None = None
    ) -> PageDialogue:
        """Check decoded JSON. Raises FieldError; that of a speaker's voice is `speaker NAME`.

        Voices of names that do not speak are ignored.
        """
        text, form = form_of(body, "script")
        given = form.get("voices", {})
        if not isinstance(given, Mapping):
            raise FieldError("", "the voices are not a JSON object; reload the page")
        script = read_script(text)
        choices, voices = {}, {}
        for name in script.speakers:
            try:
                choices[name] = VoiceChoice.parse(given.get(name, {}))
                voices[name] = choices[name].inputs(clips)
            except FieldError as error:
                raise FieldError(f"speaker {name}", str(error)) from None
        check_length("script", text, voices.values())
        options, long_form = parse_settings({**(defaults or {}), **form["settings"]})
        with logged_warnings() as notes:
            try:
                segments = dialogue_segments(script, long_form, options.normalize)
                check_pauses(segments)
            except ValueError as error:
                raise FieldError("script", str(error)) from None
        return cls(
            text.strip("\n"),
            VoiceChoice(),
            options=options,
            long_form=long_form,
            segments=tuple(segments),
            is_streamed=form.get("stream") is not False,
            settings=dict(form["settings"]),
            notes=tuple(notes),
            script=script,
            choices=choices,
            voices=voices,
        )


def read_script(text: str) -> Script:
    """The turns of a script. Raises FieldError."""
    try:
        script = parse_script(text)
        check_turns(script)
    except ValueError as error:
        raise FieldError("script", str(error)) from None
    return script


def described_script(body: object) -> dict[str, Any]:
    """What the page shows of a script while it is written: speakers, lines left out, or an error.

    Raises FieldError for what is no script at all.
    """
    text, _ = form_of(body, "script", needs_words=False)
    if not text.strip():
        return {"speakers": [], "left_out": [], "error": ""}
    try:
        script = read_script(text)
    except FieldError as error:
        return {"speakers": None, "left_out": [], "error": str(error)}
    lines = script.first_lines
    speakers = [
        {
            "name": name,
            "line": lines[name],
            "turns": sum(turn.speaker == name for turn in script.turns),
        }
        for name in script.speakers
    ]
    return {"speakers": speakers, "left_out": [list(each) for each in script.left_out], "error": ""}
