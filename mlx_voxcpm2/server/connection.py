"""A client's connection: what is sent to it, and whether it is still there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from .errors import ClientGone

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Send

STALL_SECONDS = 60.0
"""Time after which a client that reads nothing is given up."""
PIECE_BYTES = 64 * 2**10
"""Longest part of an answer that is sent at once: the server waits for the client between two."""


class Connection:
    """One request's connection. Work in a `watched` block ends when the client disconnects."""

    def __init__(self, receive: Receive, send: Send):
        self.receive, self._send = receive, send
        self.has_begun = False
        """Whether the answer has been begun, so that its status is decided."""
        self._is_complete = False

    async def start(self, headers: Mapping[str, str], status: int = 200) -> None:
        encoded = [
            (name.lower().encode(), text.encode("latin-1")) for name, text in headers.items()
        ]
        self.has_begun = True
        await self._sent({"type": "http.response.start", "status": status, "headers": encoded})

    async def send(self, data: bytes, is_last: bool = False) -> None:
        """Send the next bytes. Raises ClientGone if the client reads nothing for too long."""
        for start in range(0, max(len(data), 1), PIECE_BYTES):
            piece = data[start : start + PIECE_BYTES]
            self._is_complete = is_last and start + PIECE_BYTES >= len(data)
            more_body = not self._is_complete
            await self._sent({"type": "http.response.body", "body": piece, "more_body": more_body})

    async def _sent(self, message: Message) -> None:
        with Deadline(STALL_SECONDS):
            await self._send(message)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """End the block by ClientGone when the client disconnects. The body has been read."""
        task, is_gone = asyncio.current_task(), False

        async def watch() -> None:
            nonlocal is_gone
            while (await self.receive())["type"] != "http.disconnect":
                pass
            if not self._is_complete and task is not None:
                is_gone = True
                task.cancel()

        watcher = asyncio.create_task(watch())
        try:
            yield
        except (asyncio.CancelledError, OSError) as error:
            if is_gone or (isinstance(error, OSError) and self.has_begun):
                raise ClientGone from None
            raise
        finally:
            watcher.cancel()


class Deadline:
    """Ends a block by ClientGone after so many seconds; cheaper than a task for each call."""

    def __init__(self, seconds: float):
        self.seconds, self._is_over = seconds, False

    def __enter__(self) -> None:
        loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._timer = loop.call_later(self.seconds, self._end)

    def _end(self) -> None:
        self._is_over = True
        if self._task is not None:
            self._task.cancel()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._timer.cancel()
        if self._is_over and kind is asyncio.CancelledError:
            raise ClientGone from None
