"""POST /v1/audio/transcriptions: the words of a clip, by a recogniser in a thread of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from starlette.datastructures import Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import Response

from ..audio.decoding import RECORDING
from ..audio.reading import read_audio
from ..layers.device import free_streams_at_thread_end
from ..long_form.transcript_formats import MEDIA_TYPES, checked_format, formatted, needs_times
from ..long_form.transcription import RATE, Transcription, transcribe
from ..recognition.protocols import Recogniser
from .answer import in_header
from .connection import Connection
from .errors import RequestError
from .exchange import Exchange, Service

if TYPE_CHECKING:
    from starlette.types import Message

logger = logging.getLogger("mlx_voxcpm2")

FORMATS = ("json", "text", "srt", "vtt", "verbose_json")
_FIELDS = ("file", "model", "language", "response_format")

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
                    },
                }
            }
        },
    }
}


class RecogniserThread:
    """Recogniser that is loaded and run in one thread, so that speech goes on meanwhile."""

    def __init__(self, load: Callable[[], Recogniser]):
        """Raises what `load` raises."""
        self._thread = ThreadPoolExecutor(1, "recogniser", free_streams_at_thread_end)
        self._recogniser = self._thread.submit(load).result()

    async def transcribe(
        self, audio: np.ndarray, language: str | None, has_times: bool
    ) -> Transcription:
        """Transcript of audio (samples,) at RATE. Raises what `transcribe` raises."""
        work = partial(
            transcribe,
            (audio, RATE),
            self._recogniser,
            language=language,
            has_times=has_times,
            name="file",
        )
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)


class TranscriptionExchange(Exchange):
    """The answer to a request for a transcript."""

    def __init__(self, service: Service, recogniser: RecogniserThread):
        super().__init__(service, "transcription")
        self.recogniser = recogniser

    async def answer(self, headers: Headers, connection: Connection) -> None:
        async with self.service.bodies.read(connection.receive, headers) as body:
            fields, clip = await _form(headers, body)
            del body
            async with connection.watched():
                audio = await asyncio.to_thread(read_audio, clip, RATE, "file", RECORDING)
        async with connection.watched():
            self.record.audio_seconds = len(audio) / RATE
            format_name = fields["response_format"]
            found = await self.recogniser.transcribe(
                audio, fields.get("language") or None, needs_times(format_name)
            )
            self.record.characters = len(found.text)
            content, kind = formatted(found, format_name), MEDIA_TYPES[checked_format(format_name)]
            response = Response(content, media_type=kind)
            response.headers["X-Request-Id"] = self.record.id
            if ignored := [name for name in fields if name not in _FIELDS]:
                response.headers["X-Ignored-Fields"] = in_header(", ".join(ignored))
            await connection.start(dict(response.headers))
            await connection.send(bytes(response.body), is_last=True)


async def _form(headers: Headers, body: bytes) -> tuple[dict[str, str], bytes]:
    """Fields of a form, and the content of its file. Raises RequestError or ValueError."""
    if not headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise RequestError(415, "the body is no multipart/form-data; send the clip as its file")

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    request = Request({"type": "http", "method": "POST", "headers": headers.raw}, receive)
    try:
        async with request.form(max_files=1, max_fields=50) as form:
            file = form.get("file")
            clip = await file.read() if isinstance(file, UploadFile) else None
            fields = {name: value for name, value in form.items() if isinstance(value, str)}
    except (MultiPartException, HTTPException) as error:
        detail = getattr(error, "detail", None) or getattr(error, "message", error)
        raise ValueError(f"the form can't be read ({detail}); send multipart/form-data") from None
    if clip is None:
        raise ValueError("file is missing; send the clip as the form's file")
    fields["response_format"] = (fields.get("response_format") or "json").lower()
    if fields["response_format"] not in FORMATS:
        name = fields["response_format"][:100]
        raise ValueError(f"response_format is {name!r}; it must be one of {', '.join(FORMATS)}")
    if not clip:
        raise ValueError("file is empty; send a clip")
    return fields, clip
