"""Who may use the page: names of its host, pages of other sites, the password.

A web site can make a browser send requests to this machine, under its own name (its Origin) or,
by a name that it points here, as if they came from this page (its Host).
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, RedirectResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from ..server.access import Access

# Browsers load from this server only, and what the page itself makes.
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; media-src 'self' blob:; manifest-src 'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}

MOST_SESSIONS = 1000
WRONG_PASSWORD_DELAY = 1.0  # seconds
OPEN_PATHS = ("/login", "/static/login.html", "/static/login.js", "/static/style.css")
"""Paths that need no password."""


@dataclass(eq=False)
class Password:
    """The page's password, and the browsers that have given it."""

    word: str
    _sessions: OrderedDict[str, None] = field(default_factory=OrderedDict)
    _guessing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def enter(self, guess: str) -> str | None:
        """A new session's token, or None for a wrong guess; guesses are one after the other."""
        async with self._guessing:
            if not hmac.compare_digest(guess.encode(), self.word.encode()):
                await asyncio.sleep(WRONG_PASSWORD_DELAY)
                return None
        token = secrets.token_urlsafe(32)
        self._sessions[token] = None
        while len(self._sessions) > MOST_SESSIONS:
            self._sessions.popitem(last=False)
        return token

    def knows(self, token: str | None) -> bool:
        return token is not None and token in self._sessions


def cookie_name(scope: Scope, purpose: str) -> str:
    """Name of a cookie: browsers share cookies between the ports of a host."""
    return f"mlx_voxcpm2_{purpose}_{(scope.get('server') or ('', 0))[1]}"


def cookie(scope: Scope, purpose: str) -> str | None:
    """Value of one of our cookies."""
    jar = SimpleCookie()
    try:
        jar.load(Headers(scope=scope).get("cookie", ""))
    except CookieError:
        return None
    morsel = jar.get(cookie_name(scope, purpose))
    return None if morsel is None else morsel.value


class Protection:
    """Middleware that refuses requests of other sites, and of those without the password."""

    def __init__(self, app: ASGIApp, access: Access, password: Password | None = None):
        self.app, self.access, self.password = app, access, password

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if (refusal := self._refusal(scope)) is not None:
            await refusal(scope, receive, send)
            return
        await self.app(scope, receive, _with_headers(send, HEADERS.items()))

    def _refusal(self, scope: Scope) -> JSONResponse | RedirectResponse | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self.access.has_host(host):
            return refused(
                421, f"{host[:80]!r} is no name of this page; add it by --allowed_hosts", ""
            )
        origin = headers.get("origin")
        if origin not in (None, f"http://{host}", f"https://{host}"):
            return refused(403, "another site's page asks for this; only this page may", "")
        if origin is None and headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            if scope["method"] not in ("GET", "HEAD") or scope["path"] != "/":
                return refused(403, "another site's page asks for this; only this page may", "")
        if self.password is None or scope["path"] in OPEN_PATHS:
            return None
        if self.password.knows(cookie(scope, "session")):
            return None
        if scope["path"] == "/" and scope["method"] in ("GET", "HEAD"):
            return RedirectResponse("login", 303)
        return refused(401, "the password is missing; reload the page", "")


def refused(status: int, message: str, field: str) -> JSONResponse:
    """Error for the page, or for a program."""
    return JSONResponse({"error": {"message": message, "field": field}}, status)


def _with_headers(send: Send, headers: Iterable[tuple[str, str]]) -> Send:
    added = [(name.encode(), value.encode()) for name, value in headers]

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *added]}
        await send(message)

    return send_with_headers
