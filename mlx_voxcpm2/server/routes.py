"""mlx-audio's server, speaking with this model: its own answers to POST /v1/audio/speech.

mlx-audio gives the application, the list of models and the broker, whose one thread loads and runs
the model, since streams of MLX belong to a thread. Here are limits, voices, errors before the
first byte, files that can be streamed, and an end to what nobody waits for any more.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from contextlib import aclosing
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from ..audio.encoding import SoundEncoder, encode_whole
from ..errors import one_line
from ..mlx_audio import missing, register
from .jobs import Job, Piece, SpeechSession
from .request import Limits, SpeechOrder

if TYPE_CHECKING:
    from fastapi import FastAPI
    from mlx_audio.server_inference import InferenceHandle
    from starlette.requests import Request
    from starlette.responses import Response

    from ..model import VoxCPM2
    from ..voices.registry import VoiceRegistry

logger = logging.getLogger("mlx_voxcpm2")

LONGEST_BODY = 20 * 2**20
"""Bytes. A clip of 30 s, in base64, takes 8 MB at the most."""

# Between two looks at whether the client of a request that waits is still there.
LOOK_SECONDS = 0.25

_GONE = "the client has gone"

_MODEL_LOAD, _SPEECH = "model-load", "tts"
"""What mlx-audio calls these kinds of work."""


def mlx_audio_server() -> ModuleType:
    """Its module. Raises ValueError, in one line, if it lacks something."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the voice detector, about pkg_resources
        try:
            from mlx_audio import server
        except ImportError as error:
            raise missing(error) from None
    return server


class ModelOwner:
    """mlx-audio's broker with one model, which is loaded and run in the broker's thread."""

    has_begun = False
    """Whether there is such a thread."""

    def __init__(
        self, load: Callable[[], VoxCPM2], name: str, voices: VoiceRegistry, batch_size: int
    ):
        """Loads the model. Raises what `load` raises."""
        register()
        server = mlx_audio_server()
        self.name = name
        self.broker, ModelOwner.has_begun = server.get_inference_broker(), True
        loading = _Loading(load)
        self.broker.register_adapter(_MODEL_LOAD, loading)
        self._submit(_MODEL_LOAD, None)
        self.model = loading.future.result()
        # mlx-audio's list of models names it.
        server.model_provider.models[name] = self.model
        self._speaking = _Speaking(self.model, voices, batch_size)
        self.broker.register_adapter(_SPEECH, self._speaking)

    @property
    def unfinished(self) -> int:
        """How many requests the thread has in hand."""
        session = self._speaking.session
        return 0 if session is None else len(session.requests)

    def start(self, job: Job) -> Callable[[], None]:
        """Speaks; what is returned stops it."""
        return self._submit(_SPEECH, job).cancel

    def _submit(self, kind: str, payload: Job | None) -> InferenceHandle:
        return self.broker.submit(
            endpoint_kind=kind, model_name=self.name, payload=payload, batch_key=kind
        )


class _Loading:
    """mlx-audio's ModelExecutionAdapter, to load the model in the broker's thread."""

    max_batch_size = 1

    def __init__(self, load: Callable[[], VoxCPM2]):
        self.load, self.future = load, Future()

    def supports_batch(self, request: object) -> bool:
        return False

    def supports_continuous_batch(self, request: object) -> bool:
        return False

    def run_serial(self, request: object) -> None:
        try:
            self.future.set_result(self.load())
        except BaseException as error:  # for the thread that waits
            self.future.set_exception(error)


class _Speaking:
    """mlx-audio's ModelExecutionAdapter: all requests in one session, whatever they ask for."""

    def __init__(self, model: VoxCPM2, voices: VoiceRegistry, batch_size: int):
        self.model, self.voices, self.max_batch_size = model, voices, batch_size
        self.session: SpeechSession | None = None
        """The last one; another follows when it has nothing left to say."""

    def supports_continuous_batch(self, request: object) -> bool:
        return True

    def continuous_batch_key(self, request: object) -> str:
        return _SPEECH

    def create_continuous_batch_session(self, request: object) -> SpeechSession:
        self.session = SpeechSession(self.model, self.voices, self.max_batch_size)
        return self.session


class Refused(Exception):
    """An answer that is no speech."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


class SpeechRoutes:
    """What the server answers. In its event loop only."""

    def __init__(self, owner: ModelOwner, voices: VoiceRegistry, limits: Limits, places: int):
        """places: how many requests may speak or wait; others are refused."""
        self.owner, self.voices, self.limits, self.places = owner, voices, limits, places
        self.taken = 0

    def application(self, allowed_origins: Sequence[str] = ()) -> FastAPI:
        """mlx-audio's, with its list of models. What else it has would load models and read files
        that requests name. allowed_origins: of web pages that may ask from a browser."""
        from starlette.routing import Route

        server = mlx_audio_server()
        app = server.app
        listing = [
            route for route in app.routes
            if getattr(route, "path", "") == "/v1/models" and "GET" in route.methods
        ]  # fmt: skip
        app.router.routes[:] = [
            *listing,
            Route("/v1/audio/speech", self.speech, methods=["POST"]),
            Route("/v1/audio/voices", self.list_voices, methods=["GET"]),
            Route("/health", self.health, methods=["GET"]),
        ]
        server.setup_cors(app, list(allowed_origins))
        return app

    async def health(self, request: Request) -> Response:
        from starlette.responses import JSONResponse

        counts = {"requests": self.taken, "places": self.places}
        return JSONResponse({"status": "ok", **counts, "unfinished": self.owner.unfinished})

    async def list_voices(self, request: Request) -> Response:
        from starlette.responses import JSONResponse

        voices = [{"id": name, "name": name} for name in self.voices.names()]
        return JSONResponse({"object": "list", "model": self.limits.model, "data": voices})

    async def speech(self, request: Request) -> Response:
        try:
            order = await self._order(request)
            return await self._answer(order, request)
        except Refused as refusal:
            return _error(refusal.status, str(refusal))
        except (ValueError, OSError) as error:
            return _error(400, one_line(error) if isinstance(error, OSError) else str(error))
        except Exception as error:
            _log(error)
            return _error(500, f"the speech failed ({one_line(error)}); see the server's log")

    async def _order(self, request: Request) -> SpeechOrder:
        from starlette.requests import ClientDisconnect

        body = bytearray()
        try:
            async for part in request.stream():
                body += part
                if len(body) > LONGEST_BODY:
                    raise Refused(413, f"the body has more than {LONGEST_BODY} bytes; send less")
        except ClientDisconnect:
            raise Refused(499, _GONE) from None
        try:
            data = json.loads(body)
        except (ValueError, RecursionError):
            raise ValueError("the body is no JSON; send an object, with input and voice") from None
        order = SpeechOrder.read(data, self.limits)
        if order.clip is None:
            self.voices.file(order.voice)  # else it would be refused only when its turn comes
        return order

    async def _answer(self, order: SpeechOrder, request: Request) -> Response:
        from starlette.responses import Response, StreamingResponse

        encoder = SoundEncoder(order.format_name, self.owner.model.sample_rate)
        if self.taken >= self.places:
            raise Refused(503, f"{self.taken} requests speak or wait, and no more may; try later")
        pieces = self._pieces(order, request)
        first = await anext(pieces)
        media_type = "text/event-stream" if order.stream == "sse" else encoder.media_type
        headers = {"X-Seed": str(first.seed)}
        if order.stream:
            content = _encoded(encoder, first, pieces)
            if order.stream == "sse":
                content = _events(content)
            return StreamingResponse(content, media_type=media_type, headers=headers)
        said = [first, *[piece async for piece in pieces]]
        if faults := [piece.fault for piece in said if piece.fault]:
            headers["X-Finish-Reason"] = faults[0]
        whole = np.concatenate([piece.audio for piece in said])
        file = await asyncio.to_thread(encode_whole, whole, encoder.sample_rate, order.format_name)
        return Response(file, media_type=media_type, headers=headers)

    async def _pieces(self, order: SpeechOrder, request: Request) -> AsyncGenerator[Piece, None]:
        """What is said, until its end, or until nobody listens."""
        self.taken += 1
        job = Job(order)
        stop = self.owner.start(job)
        try:
            while True:
                try:
                    piece = await asyncio.wait_for(job.pieces.get(), LOOK_SECONDS)
                except asyncio.TimeoutError:
                    if await request.is_disconnected():
                        raise Refused(499, _GONE) from None
                    continue
                if isinstance(piece, Exception):
                    raise piece
                yield piece
                if piece.is_last:
                    return
        finally:
            stop()
            self.taken -= 1


async def _encoded(
    encoder: SoundEncoder, first: Piece, others: AsyncGenerator[Piece, None]
) -> AsyncIterator[bytes]:
    try:
        async with aclosing(others):
            yield await asyncio.to_thread(encoder.write, first.audio, first.is_last)
            async for piece in others:
                yield await asyncio.to_thread(encoder.write, piece.audio, piece.is_last)
    except Refused:
        pass  # nobody listens
    except Exception as error:
        _log(error)
        raise


async def _events(content: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """As OpenAI's service sends them, with "stream_format": "sse"."""
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
    """In the form that clients for OpenAI's service show."""
    from starlette.responses import JSONResponse

    kind = "invalid_request_error" if status < 500 else "server_error"
    error = {"message": message, "type": kind, "param": None, "code": None}
    headers = {"Retry-After": "1"} if status == 503 else None
    return JSONResponse({"error": error}, status, headers)
