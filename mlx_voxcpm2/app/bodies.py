"""Bodies of requests: bounded in size, time and number before they are read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .inputs import FieldError
from .visitors import Busy

if TYPE_CHECKING:
    from starlette.requests import Request

MOST_JSON_BYTES = 2**20
MOST_CLIP_BYTES = 20 * 2**20
"""Size of an uploaded clip: two minutes of uncompressed stereo."""
STALL_SECONDS = 10.0
"""A sender that sends nothing for so long is cut off."""
BODY_SECONDS = 120.0
MOST_BODIES = 8
"""Bodies that are read at once, in all."""


class TooLarge(ValueError):
    """The body is larger than any that is needed."""


class Bodies:
    """Reader of bodies, for one server."""

    def __init__(self) -> None:
        self._open = 0

    async def json(self, request: Request) -> object:
        """Decoded JSON. Raises FieldError for anything else, TooLarge or Busy."""
        content_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
        if content_type != "application/json":
            raise FieldError("", "the content type must be application/json")
        data = await self.bytes(request, MOST_JSON_BYTES)
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            raise FieldError("", "the body is not JSON; reload the page") from None

    async def bytes(self, request: Request, limit: int) -> bytes:
        """The body. Raises TooLarge, Busy, or TimeoutError for a sender that is too slow."""
        if _stated_length(request) > limit:
            raise TooLarge(f"That is more than {limit >> 20} MB; give a clip of 5 to 30 s.")
        with self._place():
            return await asyncio.wait_for(_read(request, limit), BODY_SECONDS)

    @contextmanager
    def _place(self) -> Iterator[None]:
        if self._open >= MOST_BODIES:
            raise Busy("Too many uploads just now; try again in a moment.")
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1


async def _read(request: Request, limit: int) -> bytes:
    parts, size, stream = [], 0, request.stream()
    while True:
        try:
            part = await asyncio.wait_for(anext(stream), STALL_SECONDS)
        except StopAsyncIteration:
            return b"".join(parts)
        size += len(part)
        if size > limit:
            raise TooLarge(f"That is more than {limit >> 20} MB; give a clip of 5 to 30 s.")
        parts.append(part)


def _stated_length(request: Request) -> int:
    length = request.headers.get("content-length", "0")
    return int(length) if length.isascii() and length.isdigit() else 0
