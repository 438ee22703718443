"""Clips on the page: uploaded, heard, transcribed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..audio.clips import read_clip
from ..audio.encoding import encode_whole
from ..voices.making import LONGEST_CLIP
from .answers import UPLOAD_PATH, answering, sound
from .inputs import FieldError
from .transcription import Transcriber
from .visitors import StoredClip

if TYPE_CHECKING:
    from starlette.requests import Request

    from ..server.model_thread import ModelThread
    from .bodies import PageBodies
    from .visitors import Visitor, Visitors

MOST_DECODERS = 2
"""Clips that are decoded at once."""


class ClipRoutes:
    """Routes of clips. visitor: the visitor of a request."""

    def __init__(
        self,
        thread: ModelThread,
        bodies: PageBodies,
        visitors: Visitors,
        visitor: Callable[[Request], Visitor],
        asr_model: str | None,
    ):
        self.bodies, self.visitors, self.visitor = bodies, visitors, visitor
        self.sample_rate = thread.model.clip_encoder.sample_rate
        self.transcriber = Transcriber(asr_model)
        self._decoding = asyncio.Semaphore(MOST_DECODERS)

    def routes(self) -> list[Route]:
        return [
            Route(UPLOAD_PATH, self.add, methods=["POST"]),
            Route("/page/clips/{clip}", self.tell),
            Route("/page/clips/{clip}/sound", self.sound),
            Route("/page/clips/{clip}/words", self.words, methods=["POST"]),
        ]

    @answering
    async def add(self, request: Request) -> Response:
        """Decode an uploaded clip and store it; the answer has its faults."""
        visitor = self.visitor(request)
        name = request.query_params.get("name", "")[:80] or "clip"
        async with self.bodies.clip(request) as data, self._decoding:
            clip = await run_in_threadpool(stored_clip, data, self.sample_rate, name)
        self.visitors.make_room(clip.samples.nbytes)
        visitor.add_clip(clip)
        return JSONResponse(clip.as_json())

    @answering
    async def tell(self, request: Request) -> Response:
        return JSONResponse(self.visitor(request).clips[request.path_params["clip"]].as_json())

    @answering
    async def sound(self, request: Request) -> Response:
        samples, rate = self.visitor(request).clip(request.path_params["clip"])
        return sound(await run_in_threadpool(encode_whole, samples, rate, "wav"))

    @answering
    async def words(self, request: Request) -> Response:
        """The words of a clip, by a recogniser."""
        clip = self.visitor(request).clip(request.path_params["clip"])
        return JSONResponse({"words": await self.transcriber.words(clip)})


def stored_clip(data: bytes, rate: int, name: str) -> StoredClip:
    """Clip of a file's bytes, at `rate` Hz. Raises FieldError."""
    try:
        clip = read_clip(data, rate, "ref_audio")
    except (ValueError, OSError) as error:
        raise FieldError("clip", sentence(str(error).removeprefix("ref_audio: "))) from None
    if clip.seconds > LONGEST_CLIP:
        raise FieldError("clip", f"{clip.seconds:.0f} s are too long; cut the clip to 5 to 30 s.")
    if clip.is_silent:
        raise FieldError("clip", sentence(f"it {clip.problems()[0]}"))
    return StoredClip(clip.samples, rate, name, tuple(sentence(f"it {p}") for p in clip.problems()))


def sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
