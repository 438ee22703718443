"""Server of the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware

from .protection import Hosts, Password, Protection

if TYPE_CHECKING:
    import socket

    from .routes import PageRoutes

GRACE_SECONDS = 2
"""When the page ends, browsers get this time for what they are receiving."""
MOST_CONNECTIONS = 256


def application(page: PageRoutes, hosts: Hosts, password: Password | None = None) -> Starlette:
    """The page as an ASGI application, with the checks of who asks."""
    protection = Middleware(Protection, hosts=hosts, password=password)
    return Starlette(routes=page.routes(), middleware=[protection])


def serve(app: Starlette, listener: socket.socket) -> None:
    """Answer requests until Ctrl-C or SIGTERM."""
    config = uvicorn.Config(
        app,
        log_level="critical",  # the routes log their own failures
        access_log=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=GRACE_SECONDS,
        server_header=False,
    )
    uvicorn.Server(config).run(sockets=[listener])
