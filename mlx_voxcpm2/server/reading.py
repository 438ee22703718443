"""Reading bodies: bounded in bytes, in time, and in how many large ones are held at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from .errors import ClientGone, RequestError

if TYPE_CHECKING:
    from starlette.types import Receive

MAX_BODY_BYTES = 20 * 2**20
"""Maximum length of a body. A clip of 30 s, in base64, has at most 8 MB."""
LARGE_BYTES = 256 * 2**10
"""A longer body has a clip, and is held only beside few others."""
LARGE_AT_ONCE = 4
BODY_SECONDS = 20.0
"""Time that a client has for a body, and further seconds for every `SLOWEST` bytes of it."""
SLOWEST = 50_000
WAIT_SECONDS = 30.0
"""Time that a large body waits for its turn."""


class Places:
    """Number of requests that are read, spoken or wait; others are refused before their body."""

    def __init__(self, capacity: int):
        self.capacity, self.taken = capacity, 0

    def __enter__(self) -> None:
        if self.taken >= self.capacity:
            raise RequestError(
                503, f"{self.taken} requests are waiting or spoken; try later", retry_after=1
            )
        self.taken += 1

    def __exit__(self, *_: object) -> None:
        self.taken -= 1


class Bodies:
    """Bodies of requests, for one event loop."""

    def __init__(self, limit: int = MAX_BODY_BYTES, seconds: float = BODY_SECONDS):
        self.limit, self.seconds = limit, seconds
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)

    @asynccontextmanager
    async def read(self, receive: Receive, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
        """A body, held until the block ends. Raises RequestError or ClientGone."""
        self._check_length(headers.get("content-length"))
        begin, body = time.monotonic(), bytearray()
        async with AsyncExitStack() as held:
            is_large, has_more = False, True
            while has_more:
                allowed = begin + self.seconds + len(body) / SLOWEST - time.monotonic()
                try:
                    message = await asyncio.wait_for(receive(), max(allowed, 0.001))
                except asyncio.TimeoutError:
                    raise RequestError(
                        408, f"the body did not come within {self.seconds:.0f} s; send it faster"
                    ) from None
                if message["type"] == "http.disconnect":
                    raise ClientGone
                body += message.get("body", b"")
                has_more = message.get("more_body", False)
                if len(body) > self.limit:
                    raise self._too_long()
                if len(body) > LARGE_BYTES and not is_large:
                    waited = time.monotonic()
                    await self._hold_large(held)
                    is_large, begin = True, begin + time.monotonic() - waited
            yield bytes(body)

    def _check_length(self, header: str | None) -> None:
        if header is not None and header.isdecimal() and int(header[:20]) > self.limit:
            raise self._too_long()

    def _too_long(self) -> RequestError:
        return RequestError(413, f"the body has more than {self.limit} bytes; send less")

    async def _hold_large(self, held: AsyncExitStack) -> None:
        try:
            await asyncio.wait_for(self._large.acquire(), WAIT_SECONDS)
        except asyncio.TimeoutError:
            raise RequestError(
                503, "other requests with large clips are read; try later", retry_after=5
            ) from None
        held.callback(self._large.release)
