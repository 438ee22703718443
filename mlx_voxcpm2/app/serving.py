"""The page and the server's API as one application, with one model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware

from .protection import Password, Protection

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from ..server.access import Access
    from .routes import PageRoutes

API_PATHS = ("/v1", "/audio", "/models", "/health", "/metrics", "/docs", "/openapi.json")
"""Beginnings of the paths that the API answers."""


def page_application(
    page: PageRoutes, access: Access, password: Password | None = None
) -> Starlette:
    """The page as an ASGI application, with the checks of who asks."""
    protection = Middleware(Protection, access=access, password=password)
    return Starlette(routes=page.routes(), middleware=[protection])


class PageWithApi:
    """Application of two: the API's paths are the API's, all others the page's."""

    def __init__(self, page: ASGIApp, api: ASGIApp):
        self.page, self.api = page, api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        is_api = any(path == each or path.startswith(f"{each}/") for each in API_PATHS)
        await (self.api if is_api else self.page)(scope, receive, send)
