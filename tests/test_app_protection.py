"""Who may use the page."""

import asyncio

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from mlx_voxcpm2.app import protection
from mlx_voxcpm2.app.protection import Password, Protection
from mlx_voxcpm2.server.access import Access


@pytest.fixture
def client():
    async def hello(request):
        return PlainTextResponse("hello")

    routes = [
        Route("/", hello, methods=["GET", "POST"]),
        Route("/x", hello, methods=["GET", "POST"]),
    ]
    app = Starlette(routes=routes, middleware=[Middleware(Protection, access=Access())])
    return TestClient(app, "http://localhost:7860")


@pytest.mark.parametrize("host", ["localhost:7860", "127.0.0.1", "[::1]:7860", "page.localhost"])
def test_names_of_this_machine_are_accepted(client, host):
    assert client.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "10.0.0.1", "", "[", "evil.example:7860"]
)
def test_other_names_are_refused(client, host):
    """A name that another site points at this machine would make its pages this page's."""
    assert client.get("/", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:1", "x"])
def test_pages_of_other_sites_are_refused(client, origin):
    for method in ("GET", "POST"):
        assert client.request(method, "/x", headers={"origin": origin}).status_code == 403


def test_the_pages_own_requests_and_links_to_it_are_accepted(client):
    assert client.post("/x", headers={"origin": "http://localhost:7860"}).status_code == 200
    cross = {"sec-fetch-site": "cross-site"}
    assert client.get("/", headers=cross).status_code == 200
    assert client.get("/x", headers=cross).status_code == 403
    assert client.post("/", headers=cross).status_code == 403


def test_a_password_gives_sessions_that_are_bounded(monkeypatch):
    monkeypatch.setattr(protection, "WRONG_PASSWORD_DELAY", 0)
    monkeypatch.setattr(protection, "MOST_SESSIONS", 2)

    async def enter():
        password = Password("pässword")
        assert await password.enter("password") is None and await password.enter("") is None
        tokens = [await password.enter("pässword") for _ in range(3)]
        return [password.knows(token) for token in [*tokens, None, ""]]

    assert asyncio.run(enter()) == [False, True, True, False, False]
