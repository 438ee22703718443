"""Form of POST /v1/audio/transcriptions, as OpenAI's service takes it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request

from ..long_form.transcript_formats import MEDIA_TYPES, checked_format, formatted, needs_times
from ..long_form.transcription import Transcription
from .errors import RequestError

if TYPE_CHECKING:
    from starlette.types import Message

FORMATS = ("json", "text", "srt", "vtt", "verbose_json")
GRANULARITIES = ("segment", "word")
_GRANULARITIES = "timestamp_granularities"
_SWITCHES = {"true": True, "1": True, "false": False, "0": False}
_FIELDS = ("file", "model", "language", "response_format", "stream", _GRANULARITIES)

TRANSCRIPTION_SCHEMA: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "model": {"type": "string", "description": "any name; there is one"},
                        "language": {"type": "string", "description": "a code such as de"},
                        "response_format": {"type": "string", "enum": list(FORMATS)},
                        "stream": {
                            "type": "boolean",
                            "description": "whether to send the text as it is recognised",
                        },
                        f"{_GRANULARITIES}[]": {
                            "type": "array",
                            "items": {"type": "string", "enum": list(GRANULARITIES)},
                            "description": "times of verbose_json, by default of segments",
                        },
                    },
                }
            }
        },
    }
}


@dataclass(frozen=True)
class TranscriptionRequest:
    """What a form asks for. Raises ValueError for a value that is not offered."""

    response_format: str = "json"
    language: str | None = None
    is_stream: bool = False
    granularities: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    """Names of the fields without a meaning here."""

    def __post_init__(self) -> None:
        _check_one_of("response_format", self.response_format, FORMATS)
        for each in self.granularities:
            _check_one_of(_GRANULARITIES, each, GRANULARITIES)
        if self.granularities and self.response_format != "verbose_json":
            raise ValueError(f"{_GRANULARITIES} are for response_format 'verbose_json'; give it")
        if self.is_stream and needs_times(self.response_format):
            raise ValueError(
                f"stream sends text, and no {self.response_format}; give response_format 'json'"
            )

    @property
    def has_words(self) -> bool:
        return "word" in self.granularities

    @property
    def has_segments(self) -> bool:
        return needs_times(self.response_format) and self.granularities != ("word",)

    @property
    def media_type(self) -> str:
        return MEDIA_TYPES[checked_format(self.response_format)]

    def content(self, found: Transcription) -> str:
        return formatted(found, self.response_format)

    @classmethod
    def of(cls, fields: list[tuple[str, str]]) -> TranscriptionRequest:
        """Request of a form's fields; of a list, each item is a field, as `NAME[]` or `NAME[0]`."""
        named = [(re.sub(r"\[\d*\]$", "", name), value) for name, value in fields]
        last = dict(named)
        stream = (last.get("stream") or "false").lower()
        _check_one_of("stream", stream, tuple(_SWITCHES))
        return cls(
            (last.get("response_format") or "json").lower(),
            last.get("language") or None,
            _SWITCHES[stream],
            tuple(dict.fromkeys(each for name, each in named if name == _GRANULARITIES)),
            tuple(name for name in last if name not in _FIELDS),
        )


def _check_one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} is {value[:100]!r}; it must be one of {', '.join(known)}")


async def read_form(headers: Headers, body: bytes) -> tuple[TranscriptionRequest, bytes]:
    """A form's fields, and the content of its file. Raises RequestError or ValueError."""
    if not headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise RequestError(415, "the body is no multipart/form-data; send the clip as its file")

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    request = Request({"type": "http", "method": "POST", "headers": headers.raw}, receive)
    try:
        async with request.form(max_files=1, max_fields=50) as form:
            file = form.get("file")
            clip = await file.read() if isinstance(file, UploadFile) else None
            fields = [(name, value) for name, value in form.multi_items() if type(value) is str]
    except (MultiPartException, HTTPException) as error:
        detail = getattr(error, "detail", None) or getattr(error, "message", error)
        raise ValueError(f"the form can't be read ({detail}); send multipart/form-data") from None
    if clip is None:
        raise ValueError("file is missing; send the clip as the form's file")
    if not clip:
        raise ValueError("file is empty; send a clip")
    return TranscriptionRequest.of(fields), clip
