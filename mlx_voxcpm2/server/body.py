"""JSON body of POST /v1/audio/speech: the names of its fields, their types, and their aliases.

Its fields are OpenAI's, this model's own, and the settings of `GenerationOptions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from ..audio.encoding import MEDIA_TYPES
from ..errors import shown
from ..long_form.options import LongFormOptions
from ..settings import Setting, accepted_names, settings_of, unknown_name
from ..speech.keywords import ADVICE, COUNTERPARTS
from ..speech.options import GenerationOptions

SUBTITLES = ("srt", "vtt")
LONG_FORM = ("segment_length", "paragraph_pause", "language")
"""Settings of `LongFormOptions` that requests have."""
CLIPS = ("ref_audio", "prompt_audio")


class _OwnFields(BaseModel):
    """Fields that are no settings of a dataclass."""

    model_config = ConfigDict(strict=True, extra="forbid")

    model: str | None = Field(None, description="any name; there is one model")
    input: str = Field(description="the text; [pause:0.8] in it makes a pause")
    voice: str | dict[str, Any] | None = Field(
        None, description="a saved voice, an alias, one of OpenAI's names, or an object with id"
    )
    instruct: str | None = Field(
        None, description="description of the voice or of the style; also `instructions`"
    )
    response_format: str | None = Field(
        None, description=f"{', '.join(MEDIA_TYPES)}, in any case (default mp3)"
    )
    stream: bool | None = Field(
        None, description="send the sound as it is made (default), or whole if false"
    )
    stream_format: str | None = Field(None, description="audio, or sse for OpenAI's events")
    ref_audio: str | None = Field(None, description="clip to clone, in base64 or as a data URL")
    ref_text: str | None = Field(None, description="transcript of ref_audio")
    prompt_audio: str | None = Field(None, description="clip to continue, as ref_audio")
    prompt_text: str | None = Field(None, description="transcript of prompt_audio")
    adapter: str | None = Field(None, description="name of one of the server's --adapters")
    retry: bool | None = Field(
        None, description="both retries at once: they need a whole answer, so stream is false"
    )
    subtitles: str | None = Field(
        None, description="srt or vtt: an event, or a file under X-Subtitles"
    )


def _field(described: Setting, default: object) -> tuple[Any, Any]:
    """Type and description of a setting, for pydantic; None stands for the server's default."""
    types: dict[str, Any] = {"number": float, "integer": int, "switch": bool}
    types |= {"choice": str, "text": str, "language": bool | str}
    limits = "" if described.high is None else f" ({described.low:g} to {described.high:g})"
    return types[described.kind] | None, Field(None, description=f"{described.help}{limits}")


def _settings() -> dict[str, tuple[Any, Any]]:
    found = {
        name: _field(described, None) for name, described in settings_of(GenerationOptions).items()
    }
    long = settings_of(LongFormOptions)
    return found | {name: _field(long[name], None) for name in LONG_FORM}


SpeechBody: type[BaseModel] = create_model("SpeechBody", __base__=_OwnFields, **_settings())  # type: ignore[call-overload]
"""Fields of a body, by their names here."""

_TAKEN = {"ref_text", "stream", *SpeechBody.model_fields}
ALIASES = {
    **{other: name for other, name in COUNTERPARTS.items() if name in SpeechBody.model_fields},
    **accepted_names(GenerationOptions),
}
"""Further names of the fields -> the fields."""
for _name in _TAKEN:
    ALIASES.pop(_name, None)
for _name in ("prompt_wav_path", "reference_wav_path"):  # no file of the server is read
    ALIASES.pop(_name, None)

FIELDS = tuple(sorted({*SpeechBody.model_fields, *ALIASES}))
"""Names of the fields that a body may have."""

_COUNTERPARTS = {other: name for other, name in COUNTERPARTS.items() if name in FIELDS}
_EXPECTED = {
    "string_type": "a string",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "dict_type": "an object",
}


def read_fields(body: object, is_strict: bool) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Fields that are not null, by name, and the names of those that are not known.

    Raises ValueError, in one line, for a wrong type, and if `is_strict` for an unknown name.
    """
    if not isinstance(body, Mapping):
        raise ValueError("the body is not a JSON object; send one, with input and voice")
    given = {name: value for name, value in body.items() if value is not None}
    ignored = tuple(name for name in given if name not in FIELDS)
    if ignored and is_strict:
        raise ValueError(unknown_name(ignored[0][:100], FIELDS, _COUNTERPARTS, ADVICE))
    named = {ALIASES.get(name, name): value for name, value in given.items() if name in FIELDS}
    named.setdefault("input", "")  # the message for an empty text is a better one
    try:
        fields = SpeechBody.model_validate(named).model_dump(exclude_unset=True)
    except ValidationError as error:
        clients_names = {ALIASES.get(name, name): name for name in given}
        raise ValueError(_message(error, clients_names)) from None
    return fields, ignored


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
