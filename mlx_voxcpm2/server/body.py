"""JSON bodies of requests: the names of their fields, their types, and their aliases.

The fields are OpenAI's, this model's own, and the settings of `GenerationOptions`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from ..audio.encoding import MEDIA_TYPES
from ..dialogue.options import TurnOptions
from ..errors import shown
from ..settings import Setting, accepted_names, settings_of, unknown_name
from ..speech.keywords import ADVICE, COUNTERPARTS
from ..speech.options import GenerationOptions

SUBTITLES = ("srt", "vtt")
LONG_FORM = ("segment_length", "paragraph_pause", "language")
"""Settings of `LongFormOptions` that requests have."""
TURNS = (*LONG_FORM, "turn_pause")
"""Settings of `TurnOptions` that requests for dialogues have."""
CLIPS = ("ref_audio", "prompt_audio")


class _AnswerFields(BaseModel):
    """Fields that say how the sound is sent, and by which model."""

    model_config = ConfigDict(strict=True, extra="forbid")

    model: str | None = Field(None, description="any name; there is one model")
    response_format: str | None = Field(
        None, description=f"{', '.join(MEDIA_TYPES)}, in any case (default mp3)"
    )
    stream: bool | None = Field(
        None, description="send the sound as it is made (default), or whole if false"
    )
    stream_format: str | None = Field(None, description="audio, or sse for OpenAI's events")
    adapter: str | None = Field(None, description="name of one of the server's --adapters")
    retry: bool | None = Field(
        None, description="both retries at once: they need a whole answer, so stream is false"
    )
    subtitles: str | None = Field(
        None, description="srt or vtt: an event, or a file under X-Subtitles"
    )


class _SpeechFields(_AnswerFields):
    """Fields of speech for a text that are no settings of a dataclass."""

    input: str = Field(description="the text; [pause:0.8] in it makes a pause")
    voice: str | dict[str, Any] | None = Field(
        None,
        description="a saved voice, an alias, one of OpenAI's names, one of a small voice's "
        "descriptions such as woman, or an object with id",
    )
    instruct: str | None = Field(
        None, description="description of the voice or of the style; also `instructions`"
    )
    ref_audio: str | None = Field(None, description="clip to clone, in base64 or as a data URL")
    ref_text: str | None = Field(None, description="transcript of ref_audio")
    prompt_audio: str | None = Field(None, description="clip to continue, as ref_audio")
    prompt_text: str | None = Field(None, description="transcript of prompt_audio")


class _DialogueFields(_AnswerFields):
    """Fields of a dialogue that are no settings of a dataclass."""

    script: str = Field(description="lines such as Anna (sad): Hello. [pause:0.8] makes a pause")
    voices: dict[str, Any] | list[Any] | None = Field(
        None,
        description="voice of each speaker, by name, or in the speakers' order: a saved voice, an "
        "alias, one of OpenAI's names, or design: DESCRIPTION; others are made up",
    )


def _field(described: Setting, default: object) -> tuple[Any, Any]:
    """Type and description of a setting, for pydantic; None stands for the server's default."""
    types: dict[str, Any] = {"number": float, "integer": int, "switch": bool}
    types |= {"choice": str, "text": str, "language": bool | str}
    limits = "" if described.high is None else f" ({described.low:g} to {described.high:g})"
    return types[described.kind] | None, Field(None, description=f"{described.help}{limits}")


def _settings(long_names: Iterable[str]) -> dict[str, tuple[Any, Any]]:
    """Fields of the options, and of those of long texts and dialogues of these names."""
    long = settings_of(TurnOptions)
    found = {name: _field(each, None) for name, each in settings_of(GenerationOptions).items()}
    return found | {name: _field(long[name], None) for name in long_names}


@dataclass(frozen=True)
class BodyFields:
    """Fields of one kind of body."""

    model: type[BaseModel]
    """Their types, by their names here."""
    text: str
    """Name of the field that may not be empty."""

    @cached_property
    def aliases(self) -> dict[str, str]:
        """Further names of the fields -> the fields. Those of files are none: none is read."""
        own = self.model.model_fields
        others = {name: field for name, field in COUNTERPARTS.items() if field in own}
        others |= accepted_names(GenerationOptions)
        taken = {"ref_text", "stream", "prompt_wav_path", "reference_wav_path", *own}
        return {name: field for name, field in others.items() if name not in taken}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names that a body may have."""
        return tuple(sorted({*self.model.model_fields, *self.aliases}))

    def read(self, body: object, is_strict: bool) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Fields that are not null, by name, and the names of those that are not known.

        Raises ValueError, in one line, for a wrong type, and if `is_strict` for an unknown name.
        """
        if not isinstance(body, Mapping):
            raise ValueError(f"the body is not a JSON object; send one, with {self.example}")
        given = {name: value for name, value in body.items() if value is not None}
        ignored = tuple(name for name in given if name not in self.names)
        if ignored and is_strict:
            known = {name: field for name, field in COUNTERPARTS.items() if field in self.names}
            raise ValueError(unknown_name(ignored[0][:100], self.names, known, ADVICE))
        named = {
            self.aliases.get(name, name): value
            for name, value in given.items()
            if name in self.names
        }
        named.setdefault(self.text, "")  # the message for an empty text is a better one
        try:
            fields = self.model.model_validate(named).model_dump(exclude_unset=True)
        except ValidationError as error:
            clients_names = {str(self.aliases.get(name, name)): name for name in given}
            raise ValueError(_message(error, clients_names)) from None
        return fields, ignored

    @property
    def example(self) -> str:
        """The main fields, in a sentence."""
        return f"{self.text} and {'voice' if self.text == 'input' else 'voices'}"


SPEECH = BodyFields(
    create_model("SpeechBody", __base__=_SpeechFields, **_settings(LONG_FORM)),  # type: ignore[call-overload]
    "input",
)
"""Body of POST /v1/audio/speech."""
DIALOGUE = BodyFields(
    create_model("DialogueBody", __base__=_DialogueFields, **_settings(TURNS)),  # type: ignore[call-overload]
    "script",
)
"""Body of POST /v1/audio/dialogue."""

_EXPECTED = {
    "string_type": "a string",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "dict_type": "an object",
    "list_type": "a list",
}


def _message(error: ValidationError, clients_names: Mapping[str, str]) -> str:
    """The first error, in one line, with the field's name as the client has it."""
    first = error.errors(include_url=False)[0]
    name, kinds = (
        first["loc"][0],
        [each["type"] for each in error.errors() if each["loc"][:1] == first["loc"][:1]],
    )
    expected = " or ".join(dict.fromkeys(_EXPECTED.get(kind, "of another type") for kind in kinds))
    name = clients_names.get(str(name), name)
    return f"{name} is {shown(first['input'])}; it must be {expected}"
