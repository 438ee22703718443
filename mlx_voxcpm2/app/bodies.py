"""Bodies of requests: JSON, and uploaded clips. The server's reader bounds them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ..schema import parse_json
from ..server.exchange import check_json
from ..server.reading import MAX_BODY_BYTES, Bodies
from .inputs import FieldError

if TYPE_CHECKING:
    from starlette.requests import Request

MOST_JSON_BYTES = 2**20
MOST_CLIP_BYTES = MAX_BODY_BYTES
"""Size of an uploaded clip: two minutes of uncompressed stereo."""


class PageBodies:
    """Bodies of the page's requests, for one server."""

    def __init__(self) -> None:
        self._json, self._clips = Bodies(MOST_JSON_BYTES), Bodies(MOST_CLIP_BYTES)

    async def json(self, request: Request) -> object:
        """Decoded JSON. Raises FieldError for anything else, and what `Bodies.read` raises."""
        check_json(request.headers)
        async with self._json.read(request.receive, request.headers) as data:
            try:
                return parse_json(data)
            except ValueError:
                raise FieldError("", "the body is not JSON; reload the page") from None

    @asynccontextmanager
    async def clip(self, request: Request) -> AsyncIterator[bytes]:
        """Bytes of a clip, held beside few others. Raises what `Bodies.read` raises."""
        async with self._clips.read(request.receive, request.headers) as data:
            yield data
