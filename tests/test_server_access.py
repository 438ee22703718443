"""Who may ask the server: names, origins, keys, and bodies that come slowly or are too large."""

import asyncio
import time

import pytest

pytest.importorskip("uvicorn", reason="needs the extra 'server'")

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from mlx_voxcpm2.server import reading
from mlx_voxcpm2.server.access import Access, AccessControl, is_loopback
from mlx_voxcpm2.server.errors import ClientGone, RequestError
from mlx_voxcpm2.server.reading import Bodies, Places

LOCAL = "http://127.0.0.1:8000"


async def answer(request):
    return PlainTextResponse("done", headers={"X-Seed": "1"})


async def converse(websocket):
    await websocket.accept()
    await websocket.close()


def client(access: Access | None = None, base_url: str = LOCAL) -> TestClient:
    routes = [
        Route("/", answer, methods=["GET", "POST"]),
        Route("/health", answer),
        WebSocketRoute("/ws", converse),
    ]
    app = Starlette(routes=routes)
    return TestClient(AccessControl(app, access or Access()), base_url=base_url)


@pytest.mark.parametrize(
    ("host", "named", "status"),
    [
        ("127.0.0.1:8000", (), 200),
        ("localhost", (), 200),
        ("[::1]:8000", (), 200),
        ("demo.localhost:1", (), 200),
        ("LOCALHOST:8000", (), 200),
        ("evil.example", (), 403),
        ("127.0.0.1.evil.example", (), 403),
        ("localhost@evil.example", (), 403),
        ("192.168.0.7:8000", (), 403),
        ("", (), 403),
        ("speech.lan:8000", ("speech.lan",), 200),
        ("other.lan", ("speech.lan",), 403),
        ("anything", ("*",), 200),
    ],
)
def test_a_host_is_answered_if_it_is_this_server(host, named, status):
    """A browser can be made to take another name for 127.0.0.1: DNS rebinding."""
    access = Access(allowed_hosts=named)
    assert client(access).get("/", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(("host", "status"), [("10.0.0.5:80", 200), ("evil.example", 403)])
def test_other_machines_use_addresses_which_cannot_be_rebound(host, status):
    access = Access("0.0.0.0", api_key="k")
    headers = {"Host": host, "Authorization": "Bearer k"}
    assert client(access).get("/", headers=headers).status_code == status


@pytest.mark.parametrize(
    ("origin", "allowed", "status"),
    [
        ("http://localhost:3000", (), 200),
        ("http://127.0.0.1", (), 200),
        ("https://evil.example", (), 403),
        ("http://127.0.0.1.evil.example", (), 403),
        ("null", (), 403),
        ("file://", (), 403),
        ("https://app.example", ("https://app.example",), 200),
        ("http://app.example", ("https://app.example",), 403),
        ("https://any.example", ("*",), 200),
    ],
)
def test_pages_of_other_origins_may_not_ask(origin, allowed, status):
    """Not even by what needs no preflight, as a form does."""
    asked = client(Access(allowed_origins=allowed))
    for method in ("get", "post"):
        found = getattr(asked, method)("/", headers={"Origin": origin})
        assert found.status_code == status
        assert found.headers.get("access-control-allow-origin") == (
            origin if status == 200 else None
        )
        if status == 200:
            assert "X-Seed" in found.headers["access-control-expose-headers"]
            assert found.headers["vary"] == "Origin"
    preflight = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    assert asked.options("/", headers=preflight).status_code == (204 if status == 200 else 403)


def test_preflights_say_what_may_be_sent_also_from_public_pages():
    headers = {
        "Origin": "https://app.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
        "Access-Control-Request-Private-Network": "true",
    }
    access = Access(allowed_origins=("https://app.example",), api_key="k")
    found = client(access).options("/", headers=headers)
    assert found.status_code == 204  # browsers send no key with it
    assert found.headers["access-control-allow-headers"] == "authorization, content-type"
    assert "POST" in found.headers["access-control-allow-methods"]
    assert found.headers["access-control-allow-private-network"] == "true"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Basic secret"}, 401),
        ({"Authorization": "Bearer secre"}, 401),
        ({"Authorization": "bearer secret"}, 200),
        ({"X-Api-Key": "secret"}, 200),
    ],
)
def test_a_key_is_asked_for(headers, status):
    asked = client(Access(api_key="secret"))
    found = asked.get("/", headers=headers)
    assert found.status_code == status
    if status == 401:
        assert found.json()["error"]["code"] == "invalid_api_key"
    assert asked.get("/health").status_code == 200


def test_a_websocket_is_refused_as_well():
    for access, headers in (
        (Access(), {"Origin": "https://evil.example"}),
        (Access(), {"Host": "evil.example"}),
        (Access(api_key="secret"), {}),
    ):
        with pytest.raises(WebSocketDisconnect):
            with client(access).websocket_connect("/ws", headers=headers):
                pass
    protocols = ["realtime", "openai-insecure-api-key.secret"]
    asked = client(Access(api_key="secret"))
    with asked.websocket_connect(LOCAL.replace("http", "ws") + "/ws", subprotocols=protocols):
        pass


@pytest.mark.parametrize(
    ("name", "expected"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("0.0.0.0", False), ("a.b", False)],
)
def test_loopback_addresses_are_known(name, expected):
    assert is_loopback(name) == expected


def receiver(parts: list[bytes], wait: float = 0.0, ends: bool = True):
    """An ASGI `receive` that gives parts of a body, each after a time."""
    left = list(parts)

    async def receive():
        await asyncio.sleep(wait if left else 3600)
        part = left.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(left) or not ends}

    return receive


async def body_of(bodies: Bodies, receive, headers=None) -> bytes:
    async with bodies.read(receive, headers or {}) as body:
        return body


def test_a_body_that_is_too_long_is_refused_before_it_is_read():
    async def read():
        bodies, untouched = Bodies(limit=100), receiver([])
        with pytest.raises(RequestError, match="more than 100 bytes") as refused:
            await body_of(bodies, untouched, {"content-length": "101"})
        assert refused.value.status == 413
        with pytest.raises(RequestError, match="more than 100 bytes"):
            await body_of(bodies, receiver([b"x" * 60] * 3))
        assert await body_of(bodies, receiver([b"x" * 50] * 2)) == b"x" * 100

    asyncio.run(read())


def test_slow_senders_time_out():
    async def read():
        begin = time.monotonic()
        with pytest.raises(RequestError, match="send it faster") as refused:
            await body_of(Bodies(seconds=0.2), receiver([b"x"] * 1000, wait=0.02))
        assert refused.value.status == 408 and time.monotonic() - begin < 10
        with pytest.raises(RequestError, match="send it faster"):
            await body_of(Bodies(seconds=0.1), receiver([b"x"], ends=False))

    asyncio.run(read())


def test_a_sender_that_hangs_up_is_not_waited_for():
    async def gone():
        return {"type": "http.disconnect"}

    with pytest.raises(ClientGone):
        asyncio.run(body_of(Bodies(), gone))


def test_only_few_large_bodies_are_held_at_once(monkeypatch):
    """The others are not read on while those are; small ones pass."""
    monkeypatch.setattr(reading, "WAIT_SECONDS", 0.1)
    large = [b"x" * reading.LARGE_BYTES, b"x", b"y" * 10]

    async def read():
        bodies, held = Bodies(), asyncio.Event()

        async def hold():
            async with bodies.read(receiver(large), {}):
                await held.wait()

        holding = [asyncio.create_task(hold()) for _ in range(reading.LARGE_AT_ONCE)]
        await asyncio.sleep(0.05)
        with pytest.raises(RequestError, match="try later") as refused:
            await body_of(bodies, receiver(large))
        assert refused.value.status == 503 and refused.value.retry_after
        assert await body_of(bodies, receiver([b"small"])) == b"small"
        held.set()
        await asyncio.gather(*holding)
        assert len(await body_of(bodies, receiver(large))) == reading.LARGE_BYTES + 11

    asyncio.run(read())


def test_places_are_given_back():
    places = Places(1)
    with places:
        with pytest.raises(RequestError, match="try later"):
            with places:
                pass
        assert places.taken == 1
    assert places.taken == 0
