"""Who may ask: names of this server, web pages of other origins, and the key.

A web page that a user opens can send requests to servers on the user's own machine. A browser says
where the page comes from (Origin) and what name it asked for (Host), which it can be made to
resolve to this machine (DNS rebinding); so both are checked. Other programs send no Origin.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from .errors import RequestError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

ANY = "*"
EXPOSED = (
    "X-Request-Id, X-Seed, X-Finish-Reason, X-Ignored-Fields, X-Warnings, X-Retries, X-Guards, "
    "X-Subtitles, Retry-After"
)
"""Headers of answers that scripts of web pages may read."""
MAX_AGE = "600"
"""Seconds for which browsers remember that a page may ask."""

_OPEN_PATHS = ("/health", "/docs", "/openapi.json")
"""Paths that need no key: they tell nothing about what is spoken."""
KEY_PROTOCOL = "openai-insecure-api-key."
"""Prefix of the WebSocket protocol by which OpenAI's scripts in browsers send the key."""


def is_loopback(host: str) -> bool:
    """Whether a name or an address always means the own machine."""
    name = host.strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = _address(name)
    return address is not None and address.is_loopback


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _host_name(host: str) -> str | None:
    """Name of a Host header, without its port; None if it is none."""
    try:
        parts = urlsplit(f"//{host}")
        return parts.hostname if parts.netloc == host and "@" not in host else None
    except ValueError:
        return None


@dataclass(frozen=True)
class Access:
    """Names, origins and the key that are accepted.

    host: the address that the server listens at. If it is not this machine only, any numeric
    address and this machine's name are accepted as Host, too: only names can be rebound.
    """

    host: str = "127.0.0.1"
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    """Origins such as https://example.org, or "*"."""
    api_key: str | None = None

    def has_host(self, host: str | None) -> bool:
        """Whether a Host header names this server."""
        name = _host_name(host or "")
        return name is not None and self._is_own(name)

    def _is_own(self, name: str) -> bool:
        if ANY in self.allowed_hosts or is_loopback(name) or name == self.host.lower():
            return True
        if name in {each.lower() for each in self.allowed_hosts}:
            return True
        if is_loopback(self.host):
            return False
        machine = socket.gethostname().lower().removesuffix(".local")
        return _address(name) is not None or name in (machine, f"{machine}.local")

    def has_origin(self, origin: str, host: str | None) -> bool:
        """Whether a page of this origin may ask: one of this machine, of the allowed hosts, of this
        server itself, or one of `allowed_origins`."""
        if ANY in self.allowed_origins or origin in self.allowed_origins:
            return True
        try:
            parts = urlsplit(origin)
            name = parts.hostname
        except ValueError:
            return False
        if parts.scheme not in ("http", "https") or name is None:
            return False
        named = name in {each.lower() for each in self.allowed_hosts}
        return named or is_loopback(name) or parts.netloc == host

    def has_key(self, path: str, headers: dict[str, str]) -> bool:
        if self.api_key is None or path in _OPEN_PATHS:
            return True
        given = [headers.get("x-api-key", ""), *_bearer(headers)]
        key = self.api_key.encode()
        return any(hmac.compare_digest(each.encode("latin-1", "replace"), key) for each in given)


def _bearer(headers: dict[str, str]) -> Iterable[str]:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        yield token.strip()
    for each in headers.get("sec-websocket-protocol", "").split(","):
        if each.strip().startswith(KEY_PROTOCOL):
            yield each.strip().removeprefix(KEY_PROTOCOL)


class AccessControl:
    """Middleware that answers what may not be asked, preflights, and adds the headers of CORS."""

    def __init__(self, app: ASGIApp, access: Access):
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = dict(Headers(scope=scope))
        refusal = self._refusal(scope["path"], headers, scope.get("method", "GET"))
        if scope["type"] == "websocket":
            if refusal is None:
                await self.app(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": 1008, "reason": str(refusal)[:120]})
            return
        origin = headers.get("origin")
        is_allowed = origin is not None and self.access.has_origin(origin, headers.get("host"))
        if refusal is not None:
            await refusal.response(_cors(origin) if is_allowed else None)(scope, receive, send)
        elif is_allowed and scope["method"] == "OPTIONS":
            await _preflight(origin, headers, send)
        else:
            await self.app(
                scope, receive, _with_headers(send, _cors(origin)) if is_allowed else send
            )

    def _refusal(self, path: str, headers: dict[str, str], method: str) -> RequestError | None:
        host, origin = headers.get("host"), headers.get("origin")
        if not self.access.has_host(host):
            if not host:
                return RequestError(403, "the request names no server; send the header Host")
            return RequestError(
                403,
                f"this server is not {host[:100]!r}; start it with --allowed_hosts to give it that "
                "name",
            )
        if origin is not None and not self.access.has_origin(origin, host):
            return RequestError(
                403,
                f"pages of {origin[:100]!r} may not ask this server; start it with "
                "--allowed_origins to let them",
            )
        if method != "OPTIONS" and not self.access.has_key(path, headers):
            return RequestError(
                401,
                "the API key is missing or wrong; send it as Authorization: Bearer KEY",
                code="invalid_api_key",
            )
        return None


def _cors(origin: str | None) -> dict[str, str]:
    return {
        "Access-Control-Allow-Origin": origin or "",
        "Access-Control-Expose-Headers": EXPOSED,
        "Vary": "Origin",
    }


async def _preflight(origin: str | None, headers: dict[str, str], send: Send) -> None:
    """Answer a browser's question whether a page may send a request."""
    answer = _cors(origin) | {
        "Access-Control-Allow-Methods": "GET, HEAD, POST, OPTIONS",
        "Access-Control-Allow-Headers": headers.get(
            "access-control-request-headers", "authorization, content-type"
        ),
        "Access-Control-Max-Age": MAX_AGE,
    }
    if headers.get("access-control-request-private-network") == "true":
        answer["Access-Control-Allow-Private-Network"] = "true"
    await send({"type": "http.response.start", "status": 204, "headers": _encoded(answer)})
    await send({"type": "http.response.body", "body": b""})


def _with_headers(send: Send, headers: dict[str, str]) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *_encoded(headers)]}
        await send(message)

    return send_with_headers


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
