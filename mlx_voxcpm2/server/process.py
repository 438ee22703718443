"""Running the application by uvicorn: when it announces itself, what it gives up, how it ends."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..errors import options_spelled
from .connection import STALL_SECONDS
from .websocket import MAX_MESSAGE_BYTES

if TYPE_CHECKING:
    from starlette.types import ASGIApp

KEEP_SECONDS = 30
"""Time that a connection stays open for another request. OpenAI's client uses one again for 5 s,
and would fail if we closed it at that moment."""
HEAD_SECONDS = 20.0
"""Time that a client has for the head of a request."""


class WatchedTransport:
    """A transport that is aborted when its client reads nothing for `STALL_SECONDS`.

    Without it the bytes that are left, and the socket, would be held until the client leaves: a
    transport that is closed waits for them to be sent.
    """

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop):
        self._transport, self._loop = transport, loop
        self._written, self._is_watched = 0, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        self._transport.write(data)
        self._written += len(data)
        if not self._is_watched:
            self._watch()

    def _watch(self) -> None:
        """Look again later, if there are bytes left."""
        left = self._transport.get_write_buffer_size()
        self._is_watched = left > 0
        if self._is_watched:
            self._loop.call_later(STALL_SECONDS, self._check, self._written - left)

    def _check(self, sent: int) -> None:
        """Abort unless the client has read. sent: bytes that had been when the watch began."""
        left = self._transport.get_write_buffer_size()
        if left and self._written - left <= sent:
            self._transport.abort()
        else:
            self._watch()


class Protocol(H11Protocol):
    """HTTP, where the head of a request has to come in time, and the answer is read in time."""

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        watched: Any = WatchedTransport(transport, self.loop)
        super().connection_made(watched)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._has_head():
            self._forget_timer()
        elif self._head_timer is None:
            self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_timer()
        super().connection_lost(exc)

    def _has_head(self) -> bool:
        """Whether a request is being answered, or the connection is a WebSocket's by now."""
        is_answering = self.cycle is not None and not self.cycle.response_complete
        return is_answering or self.transport.get_protocol() is not self

    def _wait_for_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _forget_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        if not self._has_head() and not self.transport.is_closing():
            self.transport.close()


class Server(uvicorn.Server):
    """Server that ends with status 0 at Ctrl-C and SIGTERM, after the requests under way."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]):
        super().__init__(config)
        self.announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.announce()  # it accepts connections from now on

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        with options_spelled():  # clients name options as Python does, not as the command's user
            super().run(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle the signals; uvicorn would raise them once more when it has ended."""
        if threading.current_thread() is not threading.main_thread():
            yield  # other threads get none
            return
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def server_of(
    app: ASGIApp, grace: float, announce: Callable[[], None], verbose: bool = False
) -> Server:
    """Server of an application.

    grace: seconds that requests under way have at the end; new ones are refused. announce: called
    when connections are accepted.
    """
    config = uvicorn.Config(
        app,
        http=Protocol,
        # The routes log failures; what uvicorn would add are clients cut off at the end.
        log_config=None,
        log_level="info" if verbose else "critical",
        access_log=False,
        lifespan="off",
        server_header=False,
        ws_max_size=MAX_MESSAGE_BYTES,
        timeout_graceful_shutdown=round(grace),
        timeout_keep_alive=KEEP_SECONDS,
    )
    return Server(config, announce)
