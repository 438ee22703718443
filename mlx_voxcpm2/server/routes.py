"""Routes of the server: POST /v1/audio/speech, GET /v1/audio/voices and GET /health.

mlx-audio gives the application and the list of models. Here are limits, voices, errors before the
first byte, streams of any format, and the cancellation of requests whose clients disconnect.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

import numpy as np

from ..audio.encoding import StreamEncoder, encode_whole
from ..errors import one_line
from ..schema import parse_json
from ..speech.results import Chunk
from .broker import ModelOwner, mlx_audio_server
from .jobs import PendingRequest
from .request import Limits, SpeechRequest

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response

    from ..voices.registry import VoiceRegistry

logger = logging.getLogger("mlx_voxcpm2")

MAX_BODY_BYTES = 20 * 2**20
"""Maximum length of a body. A clip of 30 s, in base64, has at most 8 MB."""

# Seconds between two checks whether the client of a waiting request is still connected.
POLL_SECONDS = 0.25


class RequestError(Exception):
    """Error with the HTTP status of its response."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


class ClientGone(RequestError):
    """The client has disconnected, and nobody reads the response."""

    def __init__(self):
        super().__init__(499, "the client has disconnected")


class SpeechRoutes:
    """Handlers of the routes, for the server's event loop."""

    def __init__(self, owner: ModelOwner, voices: VoiceRegistry, limits: Limits, capacity: int):
        """capacity: number of requests that may be spoken or wait; others get status 503."""
        self.owner, self.voices, self.limits, self.capacity = owner, voices, limits, capacity
        self.active = 0
        self._decoding = asyncio.Semaphore(1)  # each decoded clip takes memory

    def application(self, allowed_origins: Sequence[str] = ()) -> FastAPI:
        """mlx-audio's application with its list of models and these routes.

        Its other routes are removed: they load models and read files that requests name.
        allowed_origins: web pages that may send requests from a browser.
        """
        from starlette.routing import Route

        server = mlx_audio_server()
        app = server.app
        models = [
            route
            for route in app.routes
            if getattr(route, "path", "") == "/v1/models" and "GET" in route.methods
        ]
        app.router.routes[:] = [
            *models,
            Route("/v1/audio/speech", self.speech, methods=["POST"]),
            Route("/v1/audio/voices", self.list_voices, methods=["GET"]),
            Route("/health", self.health, methods=["GET"]),
        ]
        server.setup_cors(app, list(allowed_origins))
        return app

    async def health(self, request: Request) -> Response:
        from starlette.responses import JSONResponse

        counts = {"requests": self.active, "capacity": self.capacity}
        return JSONResponse({"status": "ok", **counts, "unfinished": self.owner.unfinished})

    async def list_voices(self, request: Request) -> Response:
        from starlette.responses import JSONResponse

        voices = [{"id": name, "name": name} for name in self.voices.names()]
        return JSONResponse({"object": "list", "model": self.limits.model, "data": voices})

    async def speech(self, request: Request) -> Response:
        try:
            return await self._respond(await self._parse(request), request)
        except RequestError as error:
            return _error(error.status, str(error))
        except (ValueError, OSError) as error:
            return _error(400, one_line(error) if isinstance(error, OSError) else str(error))
        except Exception as error:
            _log(error)
            return _error(500, f"the speech failed ({one_line(error)}); see the server's log")

    async def _parse(self, request: Request) -> SpeechRequest:
        from starlette.requests import ClientDisconnect

        body = bytearray()
        try:
            async for part in request.stream():
                body += part
                if len(body) > MAX_BODY_BYTES:
                    message = f"the body has more than {MAX_BODY_BYTES} bytes; send less"
                    raise RequestError(413, message)
        except ClientDisconnect:
            raise ClientGone from None
        try:
            data = parse_json(bytes(body))
        except ValueError as error:
            raise ValueError(
                f"the body is not JSON ({error}); send an object, with input and voice"
            ) from None
        parsed = SpeechRequest.parse(data, self.limits)
        self.voices.file(parsed.voice.voice)  # raises now, not when the request's turn comes
        self._check_capacity()
        rate = self.owner.model.clip_encoder.sample_rate
        async with self._decoding:
            return await asyncio.to_thread(parsed.with_clip_read, rate)

    def _check_capacity(self) -> None:
        if self.active >= self.capacity:
            message = f"{self.active} requests are spoken or wait, and no more may; try later"
            raise RequestError(503, message)

    async def _respond(self, speech: SpeechRequest, request: Request) -> Response:
        from starlette.responses import Response, StreamingResponse

        encoder = StreamEncoder(speech.format_name, self.owner.model.sample_rate)
        self._check_capacity()
        chunks = self._chunks(speech, request)
        first = await anext(chunks)
        media_type = "text/event-stream" if speech.stream == "sse" else encoder.media_type
        headers = {"X-Seed": str(speech.options.seed)}
        if speech.stream:
            content = _encoded(encoder, first, chunks)
            if speech.stream == "sse":
                content = _events(content)
            return StreamingResponse(content, media_type=media_type, headers=headers)
        received = [first, *[chunk async for chunk in chunks]]
        if received[-1].finish_reason != "stop":
            headers["X-Finish-Reason"] = received[-1].finish_reason
        audio = np.concatenate([chunk.audio for chunk in received])
        rate, format_name = encoder.sample_rate, speech.format_name
        file = await asyncio.to_thread(encode_whole, audio, rate, format_name)
        return Response(file, media_type=media_type, headers=headers)

    async def _chunks(self, speech: SpeechRequest, request: Request) -> AsyncGenerator[Chunk, None]:
        """Chunks of the speech. Closing the generator cancels the request.

        Raises what went wrong in the model's thread, and ClientGone.
        """
        self.active += 1
        pending = PendingRequest(speech)
        cancel = self.owner.start(pending)
        try:
            while True:
                try:
                    chunk = await asyncio.wait_for(pending.chunks.get(), POLL_SECONDS)
                except asyncio.TimeoutError:
                    if await request.is_disconnected():
                        raise ClientGone from None
                    continue
                if isinstance(chunk, Exception):
                    raise chunk
                yield chunk
                if chunk.finish_reason is not None:
                    return
        finally:
            cancel()
            self.active -= 1


async def _encoded(
    encoder: StreamEncoder, first: Chunk, others: AsyncGenerator[Chunk, None]
) -> AsyncIterator[bytes]:
    """Bytes of a streamed file."""

    def encode(chunk: Chunk) -> bytes:
        return encoder.write(chunk.audio, is_last=chunk.finish_reason is not None)

    try:
        async with aclosing(others):
            yield await asyncio.to_thread(encode, first)
            async for chunk in others:
                yield await asyncio.to_thread(encode, chunk)
    except ClientGone:
        pass
    except Exception as error:
        _log(error)
        raise


async def _events(content: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """Server-sent events as OpenAI's service sends them, with "stream_format": "sse"."""
    async for data in content:
        if data:
            audio = base64.b64encode(data).decode()
            yield _event({"type": "speech.audio.delta", "audio": audio})
    yield _event({"type": "speech.audio.done"})


def _event(content: dict) -> str:
    return f"data: {json.dumps(content)}\n\n"


def _log(error: Exception) -> None:
    logger.error("a request failed", exc_info=error)


def _error(status: int, message: str) -> Response:
    """Response in the form that clients of OpenAI's service show."""
    from starlette.responses import JSONResponse

    kind = "invalid_request_error" if status < 500 else "server_error"
    error = {"message": message, "type": kind, "param": None, "code": None}
    headers = {"Retry-After": "1"} if status == 503 else None
    return JSONResponse({"error": error}, status, headers)
