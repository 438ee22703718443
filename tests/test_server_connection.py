"""Clients that read slowly, or not at all: what they are sent, and when they are given up."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

pytest.importorskip("uvicorn", reason="needs the extra 'server'")

from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute

from mlx_voxcpm2.server import connection as connections
from mlx_voxcpm2.server import process
from mlx_voxcpm2.server.connection import PIECE_BYTES, Connection
from mlx_voxcpm2.server.errors import ClientGone

ANSWER = bytes(range(256)) * 2**13  # 2 MB: more than all buffers on the way
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


gone = threading.Event()
"""Whether a client of `Answer` has been given up."""


class Answer(Response):
    """A whole answer, as the routes send it."""

    async def __call__(self, scope, receive, send) -> None:
        connection = Connection(receive, send)
        try:
            async with connection.watched():
                await connection.start({"Content-Length": str(len(ANSWER))})
                await connection.send(ANSWER, is_last=True)
        except ClientGone:
            gone.set()


async def answer_by_websocket(websocket) -> None:
    await websocket.accept()
    await websocket.send_bytes(ANSWER)


@contextmanager
def serving() -> Iterator[tuple[process.Server, tuple[str, int]]]:
    routes = [Route("/", lambda request: Answer())]
    app = Starlette(routes=[*routes, WebSocketRoute("/ws", answer_by_websocket)])
    listener, started = socket.create_server(("127.0.0.1", 0)), threading.Event()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**15)
    server = process.server_of(app, 0, started.set)
    runner = threading.Thread(target=server.run, args=[[listener]])
    runner.start()
    try:
        assert started.wait(20)
        yield server, listener.getsockname()
    finally:
        server.should_exit = True
        runner.join(20)


@contextmanager
def client(address: tuple[str, int], request: bytes) -> Iterator[socket.socket]:
    """A connection with a small buffer, which has sent its request."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**15)
        connection.settimeout(20)
        connection.connect(address)
        connection.sendall(request)
        yield connection


def becomes_true(condition) -> bool:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_a_whole_answer_is_sent_in_pieces():
    sent = []

    async def send(message) -> None:
        sent.append(message)

    asyncio.run(Connection(None, send).send(ANSWER[:-1], is_last=True))
    assert b"".join(each["body"] for each in sent) == ANSWER[:-1]
    assert max(len(each["body"]) for each in sent) == PIECE_BYTES
    assert [each["more_body"] for each in sent] == [True] * (len(sent) - 1) + [False]
    sent.clear()
    asyncio.run(Connection(None, send).send(b"", is_last=True))
    assert [(each["body"], each["more_body"]) for each in sent] == [(b"", False)]


def test_a_client_that_does_not_read_a_whole_answer_is_given_up(monkeypatch):
    monkeypatch.setattr(connections, "STALL_SECONDS", 0.2)
    gone.clear()
    with serving() as (_, address), client(address, REQUEST):
        assert gone.wait(10)


@pytest.mark.parametrize("request_", [REQUEST, UPGRADE], ids=["http", "websocket"])
def test_the_socket_of_a_client_that_does_not_read_is_freed(monkeypatch, request_):
    monkeypatch.setattr(process, "STALL_SECONDS", 0.2)
    with serving() as (server, address), client(address, request_):
        assert becomes_true(lambda: server.server_state.connections)
        assert becomes_true(lambda: not server.server_state.connections)
        assert becomes_true(lambda: not server.server_state.tasks)


def test_a_client_that_reads_slowly_gets_the_whole_answer(monkeypatch):
    for module in (process, connections):
        monkeypatch.setattr(module, "STALL_SECONDS", 1.0)
    found, begin = b"", time.monotonic()
    with serving() as (_, address), client(address, REQUEST) as connection:
        while len(found.partition(b"\r\n\r\n")[2]) < len(ANSWER):
            received = connection.recv(2**14)
            assert received, "the server has closed the connection"
            found += received
            time.sleep(0.02)
    assert found.endswith(ANSWER) and time.monotonic() - begin > 2
