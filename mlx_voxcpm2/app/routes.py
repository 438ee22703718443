"""The page's HTTP interface. Handlers are asynchronous; what takes time runs in other threads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from .about import about
from .answers import answering, set_cookie
from .bodies import PageBodies
from .clip_routes import ClipRoutes
from .dialogue_inputs import PageDialogue, described_script
from .inputs import FieldError, PageRequest
from .protection import Password, cookie, refused
from .streaming import LineStream, speech_lines
from .take_routes import TakeRoutes
from .visitors import Visitor, Visitors, is_visitor_id, new_visitor_id
from .voice_routes import VoiceRoutes

if TYPE_CHECKING:
    from .speaker import Speaker

STATIC = Path(__file__).parent / "static"
COOKIE_SECONDS = 30 * 86400


class Static(StaticFiles):
    """Files that browsers ask for again, so that they never mix those of two versions."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["cache-control"] = "no-cache"
        return response


def visitor_id_of(request: Request) -> str | None:
    """The visitor's id in the cookie of a request, or None if it has none of that form."""
    value = cookie(request.scope, "visitor")
    return value if value is not None and is_visitor_id(value) else None


class PageRoutes:
    """Routes of the page. options: initial values of settings, by name."""

    def __init__(
        self,
        speaker: Speaker,
        options: Mapping[str, object],
        model_name: str,
        password: Password | None = None,
        asr_model: str | None = None,
    ):
        self.speaker, self.password, self.options = speaker, password, options
        self.visitors, self.bodies, self.asr_model = Visitors(), PageBodies(), asr_model
        self._about = about(speaker.thread.model, model_name, options, asr_model)

    def routes(self) -> list[BaseRoute]:
        thread, bodies, visitor = self.speaker.thread, self.bodies, self.visitor
        clips = ClipRoutes(thread, bodies, self.visitors, visitor, self.asr_model)
        return [
            Route("/", self.index),
            Route("/login", self.login_form, methods=["GET"]),
            Route("/login", self.login, methods=["POST"]),
            Route("/page/about", self.tell_about),
            Route("/page/speech", self.speak, methods=["POST"]),
            Route("/page/script", self.describe_script, methods=["POST"]),
            Route("/page/speech/{job}/stop", self.stop, methods=["POST"]),
            *TakeRoutes(visitor).routes(),
            *clips.routes(),
            *VoiceRoutes(self.speaker, bodies, visitor).routes(),
            Mount("/static", Static(directory=STATIC)),
        ]

    def visitor(self, request: Request) -> Visitor:
        """The visitor of a request, by the cookie that `index` has set, maybe before a restart.

        The visitor is added here, not by `index`: monitors, which only ask for the page and send
        no cookie, would displace browsers. Raises FieldError for a request without the cookie.
        """
        visitor_id = visitor_id_of(request)
        if visitor_id is None:
            raise FieldError("", "The browser has no cookie of this page; reload it.")
        return self.visitors.find_or_add(visitor_id)

    async def index(self, request: Request) -> Response:
        visitor_id = visitor_id_of(request) or new_visitor_id()
        response = FileResponse(STATIC / "index.html", headers={"cache-control": "no-cache"})
        set_cookie(response, request, "visitor", visitor_id, COOKIE_SECONDS)
        return response

    async def login_form(self, request: Request) -> Response:
        return FileResponse(STATIC / "login.html", headers={"cache-control": "no-store"})

    @answering
    async def login(self, request: Request) -> Response:
        body = await self.bodies.json(request)
        guess = body.get("password") if isinstance(body, Mapping) else None
        if self.password is None:
            return JSONResponse({})
        token = await self.password.enter(guess if isinstance(guess, str) else "")
        if token is None:
            return refused(401, "That is not the password.", "password")
        response = JSONResponse({})
        set_cookie(response, request, "session", token)
        return response

    @answering
    async def tell_about(self, request: Request) -> Response:
        return JSONResponse(self._about)

    @answering
    async def speak(self, request: Request) -> Response:
        """A stream of lines: progress, audio, and at the end the take or an error."""
        visitor = self.visitor(request)
        self.visitors.check_place(visitor)
        body = await self.bodies.json(request)
        kind = PageDialogue if isinstance(body, Mapping) and "script" in body else PageRequest
        speech = await run_in_threadpool(kind.parse, body, visitor.clip, self.options)
        speech = await run_in_threadpool(self.speaker.with_faults, speech)
        self.visitors.check_place(visitor)
        job = self.speaker.speak(speech)
        visitor.jobs[job.id] = job

        def end() -> None:
            job.stop()
            visitor.jobs.pop(job.id, None)

        return LineStream(speech_lines(job, visitor.add_take, speech.is_streamed), end)

    @answering
    async def describe_script(self, request: Request) -> Response:
        """Speakers of a script that is being written."""
        self.visitor(request)
        body = await self.bodies.json(request)
        return JSONResponse(await run_in_threadpool(described_script, body))

    @answering
    async def stop(self, request: Request) -> Response:
        """Stop the work; the stream ends with the take of the speech so far."""
        self.visitor(request).jobs[request.path_params["job"]].stop()
        return JSONResponse({})
