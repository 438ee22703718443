"""Takes on the page: listed, played, saved as files, deleted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from ..audio.encoding import MEDIA_TYPES
from .answers import answering, attachment

if TYPE_CHECKING:
    from starlette.requests import Request

    from .visitors import Visitor

ENCODED = ("mp3", "flac")
SUBTITLES = ("srt", "vtt")


class TakeRoutes:
    """Routes of takes. visitor: the visitor of a request."""

    def __init__(self, visitor: Callable[[Request], Visitor]):
        self.visitor = visitor

    def routes(self) -> list[Route]:
        return [
            Route("/page/takes", self.list),
            Route("/page/takes/{take}", self.delete, methods=["DELETE"]),
            Route("/page/takes/{take}/{file}", self.file),
        ]

    @answering
    async def list(self, request: Request) -> Response:
        """Takes, newest first."""
        takes = self.visitor(request).takes.values()
        return JSONResponse([take.as_json() for take in reversed(takes)])

    @answering
    async def delete(self, request: Request) -> Response:
        self.visitor(request).remove_take(request.path_params["take"])
        return JSONResponse({})

    @answering
    async def file(self, request: Request) -> Response:
        """The take as speech.wav, .mp3 or .flac, or as subtitles.srt or .vtt."""
        take = self.visitor(request).takes[request.path_params["take"]]
        stem, _, suffix = request.path_params["file"].partition(".")
        name = f"{take.file_name}.{suffix}"
        if stem == "subtitles" and suffix in SUBTITLES:
            text = await run_in_threadpool(take.subtitles, f".{suffix}")
            return attachment(text.encode(), "text/plain; charset=utf-8", name)
        if stem == "speech" and suffix == "wav":
            return FileResponse(take.file, media_type="audio/wav", filename=name)
        if stem == "speech" and suffix in ENCODED:
            data = await run_in_threadpool(take.encoded, suffix)
            return attachment(data, MEDIA_TYPES[suffix], name)
        raise KeyError(suffix)
