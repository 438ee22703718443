"""One request for speech and its answer, from the body to the last byte."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.responses import Response

from ..errors import one_line
from ..schema import parse_json
from ..voices.inputs import VoiceInputs
from .answer import Speaker, event, events
from .body import SPEECH
from .connection import Connection
from .errors import ClientGone, RequestError
from .model_thread import ModelThread
from .reading import LARGE_BYTES, Bodies, Places
from .records import Metrics, RequestRecord
from .request import Limits, SpeechRequest, UnknownModel
from .streams import SpeechError
from .tasks import SpeechTask
from .voices import NamedVoices

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from ..model import VoxCPM2

logger = logging.getLogger("mlx_voxcpm2")

KEPT_SUBTITLES = 100
"""Number of requests whose subtitles can be fetched after their sound."""


@dataclass(eq=False)
class Service:
    """What all requests of one server share. Belongs to an event loop."""

    thread: ModelThread
    voices: NamedVoices
    limits: Limits
    capacity: int
    """Number of requests that may be read, spoken or wait; others get status 503."""

    def __post_init__(self) -> None:
        self.places, self.bodies, self.metrics = Places(self.capacity), Bodies(), Metrics()
        self.subtitles: OrderedDict[str, tuple[str, str]] = OrderedDict()
        """Format and content, by the request's id."""

    def keep_subtitles(self, id: str, format_name: str, content: str) -> None:
        self.subtitles[id] = format_name, content
        while len(self.subtitles) > KEPT_SUBTITLES:
            self.subtitles.popitem(last=False)

    async def task(self, request: SpeechRequest, is_open: bool = False) -> SpeechTask:
        """The task of a request whose clips have been read. Raises ValueError or OSError."""
        segments = () if is_open else await asyncio.to_thread(request.segments)
        voice, options = request.voice, replace(request.options, normalize=False)
        if request.has_clips:
            voice = await self.thread.call(lambda model: _encoded(voice, model))
        else:
            name = voice.voice if isinstance(voice.voice, str) else None
            voice = await self.voices.inputs(name, voice.instruct)
        return SpeechTask(segments, options, voice, request.adapter, is_open)


def _encoded(voice: VoiceInputs, model: VoxCPM2) -> VoiceInputs:
    """A voice with its clips cleaned and encoded. For the model's thread."""
    made = model.make_voice(voice.ref_audio, voice.prompt_audio, voice.prompt_text)
    return VoiceInputs.of(made, voice.instruct)


class Exchange(Response):
    """The answer to a request, which reads the request itself.

    A place is taken before the body is read, and held until the last byte has been sent.
    """

    fields = SPEECH

    def __init__(self, service: Service, kind: str = "speech"):
        super().__init__()
        self.service, self.record = service, RequestRecord(kind)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = Connection(receive, send)
        try:
            with self.service.places:
                await self.answer(Headers(scope=scope), connection)
        except Exception as error:
            refusal = refused(error)
            self.record.status = refusal.status
            if connection.has_begun and not isinstance(error, ClientGone):
                raise  # closes the connection, by which the client knows
            if not isinstance(error, ClientGone):
                await refusal.response({"X-Request-Id": self.record.id})(scope, receive, send)
        except BaseException:  # the server ends
            self.record.status = 499
            raise
        finally:
            self.service.metrics.finish(self.record)

    async def answer(self, headers: Headers, connection: Connection) -> None:
        """Read the request and send its answer. Raises what `refused` knows."""
        request, task = await self._read(headers, connection)
        async with connection.watched(), self.service.thread.speak(task) as stream:
            speaker = Speaker(request, stream, self.service.thread.sample_rate)
            speaker.warnings = await asyncio.to_thread(self.service.thread.faults, task)
            await speaker.begin()
            media_type = "text/event-stream" if request.is_events else speaker.encoder.media_type
            answer = {"Content-Type": media_type, **speaker.headers(self.record)}
            if not request.is_stream and not request.is_events:
                data = b"".join([part async for part in speaker.files(self.record)])
                self._end(speaker)
                await connection.start({**answer, "Content-Length": str(len(data))})
                await connection.send(data, is_last=True)
                return
            await connection.start(answer)
            async with aclosing(self._parts(speaker)) as parts:
                async for data in parts:
                    await connection.send(data)
            self._end(speaker)
            await connection.send(b"", is_last=True)

    async def _read(
        self, headers: Headers, connection: Connection
    ) -> tuple[SpeechRequest, SpeechTask]:
        """The request and its task; its clips are read while few others' are."""
        service = self.service
        check_json(headers)
        async with service.bodies.read(connection.receive, headers) as body:
            if len(body) > LARGE_BYTES:
                request = await asyncio.to_thread(self._parsed, body)
            else:
                request = self._parsed(body)
            del body
            async with connection.watched():
                if request.has_clips:
                    rate = service.thread.model.clip_encoder.sample_rate
                    request = await asyncio.to_thread(request.with_clips_read, rate)
                return request, await self.task(request)

    def _parsed(self, body: bytes) -> SpeechRequest:
        try:
            data = parse_json(body)
        except ValueError as error:
            raise ValueError(
                f"the body can't be read as JSON ({error}); send an object, with "
                f"{self.fields.example}"
            ) from None
        request = self.parsed(data)
        self.record.characters, self.record.format_name = len(request.text), request.format_name
        return request

    async def task(self, request: SpeechRequest) -> SpeechTask:
        """The task of a request. Raises ValueError or OSError."""
        return await self.service.task(request)

    def parsed(self, data: object) -> SpeechRequest:
        """The request of a decoded body; its voice is noted. Raises ValueError."""
        request = SpeechRequest.parse(data, self.service.limits)
        name = request.voice.voice
        self.record.voice = "clip" if request.has_clips else str(name or "default")
        if not request.has_clips:
            self.service.voices.check_name(name if isinstance(name, str) else None)
        return request

    async def _parts(self, speaker: Speaker) -> AsyncIterator[bytes]:
        """Bytes of the answer. As events, an error is the last one of them."""
        files = speaker.files(self.record)
        if not speaker.request.is_events:
            async for data in files:
                yield data
            return
        try:
            text, model = speaker.request.text, self.service.thread.model
            tokens = await asyncio.to_thread(model.tokenize, text)
            async for data in events(files, speaker, len(tokens)):
                yield data
        except ClientGone:
            raise
        except Exception as error:
            refusal = refused(error)
            self.record.status = refusal.status
            yield event({"type": "error", "error": refusal.body})

    def _end(self, speaker: Speaker) -> None:
        self.record.finish_reason = speaker.finish_reason or ""
        content = speaker.subtitles()
        if content is not None and speaker.request.subtitles is not None:
            self.service.keep_subtitles(self.record.id, speaker.request.subtitles, content)


def check_json(headers: Headers) -> None:
    """Raise RequestError unless a body says that it is JSON.

    Forms of web pages can't say so without a preflight.
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise RequestError(
            415, "the body is not sent as JSON; send the header Content-Type: application/json"
        )


def refused(error: Exception) -> RequestError:
    """What a client is told of an error."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, UnknownModel):
        return RequestError(404, str(error), code="model_not_found")
    if isinstance(error, ValueError):
        return RequestError(400, str(error))
    if isinstance(error, OSError):
        return RequestError(400, one_line(error))
    if not isinstance(error, SpeechError):
        logger.error("a request failed", exc_info=error)
    return RequestError(500, f"the speech failed ({one_line(error)}); see the server's log")
