"""The application: routes as OpenAI's service has them, and those that this model needs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, WebSocket
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from .. import __version__
from .access import Access, AccessControl
from .body import DIALOGUE, SPEECH, BodyFields
from .dialogue import DialogueExchange
from .docs import docs_page
from .errors import ERROR_RESPONSE, RequestError
from .exchange import Exchange, Service
from .transcription import RecogniserThread, TranscriptionExchange
from .transcription_request import TRANSCRIPTION_SCHEMA
from .websocket import Conversation

OPENAI_MODELS = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts")
"""Names that clients of OpenAI's service look up."""
_MEDIA = {"200": {"description": "the sound", "content": {"audio/*": {}, "text/event-stream": {}}}}


def application(
    service: Service, access: Access, recogniser: RecogniserThread | None = None
) -> FastAPI:
    """The ASGI application. recogniser: for transcriptions; None: there is no such route."""
    app = FastAPI(
        title="mlx-voxcpm2",
        version=__version__,
        description="Speech by VoxCPM2, as OpenAI's service has it.",
        docs_url=None,
        redoc_url=None,
        middleware=[Middleware(AccessControl, access=access)],
        redirect_slashes=False,
        responses={"default": ERROR_RESPONSE},
    )
    routes = Routes(service)
    _add_speech(app, "/audio/speech", routes.speech, SPEECH, "Speech for a text")
    _add_speech(app, "/audio/dialogue", routes.dialogue, DIALOGUE, "Speech for a script")
    for path, endpoint in (
        ("/v1/audio/speech/{id}/subtitles", routes.subtitles),
        ("/v1/models", routes.list_models),
        ("/v1/models/{id:path}", routes.model),
        ("/v1/audio/voices", routes.list_voices),
        ("/health", routes.health),
        ("/metrics", routes.metrics),
        ("/", routes.index),
        ("/docs", docs_page(app)),
        ("/models", routes.list_models),
        ("/v1/audio/models", routes.list_models),
        ("/audio/voices", routes.list_voices),
        ("/v1", routes.index),
    ):
        is_shown = (path.startswith("/v1/") and path != "/v1/audio/models") or path in (
            "/health",
            "/metrics",
        )
        is_text = path in ("/metrics", "/v1/audio/speech/{id}/subtitles")
        app.add_api_route(
            path,
            endpoint,
            methods=["GET"],
            include_in_schema=is_shown,
            response_class=PlainTextResponse if is_text else JSONResponse,
        )
        app.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False)
    app.add_api_websocket_route("/v1/audio/speech/stream", routes.conversation)
    if recogniser is not None:
        _add_transcriptions(app, service, recogniser)
    app.add_exception_handler(HTTPException, _http_error)
    return app


def _add_transcriptions(app: FastAPI, service: Service, recogniser: RecogniserThread) -> None:
    async def transcriptions() -> Response:
        return TranscriptionExchange(service, recogniser)

    for path in ("/v1/audio/transcriptions", "/audio/transcriptions"):
        app.add_api_route(
            path,
            transcriptions,
            methods=["POST"],
            summary="Text for a clip",
            openapi_extra=TRANSCRIPTION_SCHEMA,
            include_in_schema=path.startswith("/v1"),
            response_model=None,
        )


def _add_speech(
    app: FastAPI,
    path: str,
    endpoint: Callable[[], Awaitable[Response]],
    fields: BodyFields,
    summary: str,
) -> None:
    """A route that reads a body of JSON and answers with sound, with /v1 and without."""
    schema = fields.model.model_json_schema()
    body = {"required": True, "content": {"application/json": {"schema": schema}}}
    for prefix in ("/v1", ""):
        app.add_api_route(
            prefix + path,
            endpoint,
            methods=["POST"],
            openapi_extra={"requestBody": body, "responses": _MEDIA} if prefix else None,
            response_class=Response,
            summary=summary,
            include_in_schema=bool(prefix),
        )


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404 and request.url.path.endswith("/audio/transcriptions"):
        message = "there are no transcriptions here; start the server with --asr_model"
    elif error.status_code == 404:
        message = f"there is no {request.url.path[:200]!r} here; see /docs"
    elif error.status_code == 405:
        message = f"{request.method} is not for {request.url.path[:200]!r}; see /docs"
    else:
        message = str(error.detail)
    return RequestError(error.status_code, message).response(dict(error.headers or {}))


class Routes:
    """Handlers of one server's routes."""

    def __init__(self, service: Service):
        self.service = service

    async def speech(self) -> Response:
        return Exchange(self.service)

    async def dialogue(self) -> Response:
        return DialogueExchange(self.service, "dialogue")

    async def conversation(self, websocket: WebSocket) -> None:
        await Conversation(self.service, websocket).run()

    async def subtitles(self, id: str) -> Response:
        """Subtitles of a request that asked for them, once all of its sound has been sent."""
        found = self.service.subtitles.get(id)
        if found is None:
            return RequestError(404, f"there are no subtitles of {id[:60]!r} (yet)").response()
        name, content = found
        kind = "text/vtt" if name == "vtt" else "application/x-subrip"
        return Response(content, media_type=f"{kind}; charset=utf-8")

    async def list_models(self) -> Response:
        """The model that speaks."""
        models = [_model(self.service.limits.model)]
        return JSONResponse({"object": "list", "data": models, "models": models})

    async def model(self, id: str) -> Response:
        """The model, by its name or one of OpenAI's."""
        limits = self.service.limits
        if id != limits.model and (limits.is_strict or id not in OPENAI_MODELS):
            message = f"there is no model {id[:200]!r} here; there is: {limits.model}"
            return RequestError(404, message, code="model_not_found").response()
        return JSONResponse(_model(id))

    async def list_voices(self) -> Response:
        """The voices that requests may name."""
        voices = [{"id": name, "name": name} for name in self.service.voices.names()]
        model = self.service.limits.model
        return JSONResponse({"object": "list", "model": model, "voices": voices, "data": voices})

    async def health(self) -> Response:
        """Whether the server can speak, and how many requests it has."""
        service, thread = self.service, self.service.thread
        counts = {"requests": service.places.taken, "capacity": service.places.capacity}
        counts |= {"unfinished": thread.unfinished, "speaking": thread.speaking}
        status = "ok" if thread.is_alive else "failed"
        return JSONResponse({"status": status, **counts}, 200 if thread.is_alive else 503)

    async def metrics(self) -> Response:
        """Numbers for Prometheus."""
        from prometheus_client import CONTENT_TYPE_LATEST

        metrics, thread = self.service.metrics, self.service.thread
        metrics.active.set(self.service.places.taken)
        metrics.speaking.set(thread.speaking)
        metrics.failures.set(thread.failures)
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def index(self) -> Response:
        links = {"speech": "/v1/audio/speech", "voices": "/v1/audio/voices", "docs": "/docs"}
        return JSONResponse({"model": self.service.limits.model, "version": __version__, **links})


def _model(id: str) -> dict[str, Any]:
    return {"id": id, "object": "model", "created": 0, "owned_by": "mlx-voxcpm2"}
