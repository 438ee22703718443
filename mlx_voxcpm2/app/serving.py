"""Server of the page. It loads nothing from other hosts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import gradio
from starlette.middleware import Middleware
from starlette.responses import StreamingResponse
from starlette.routing import Route

from .events import Events
from .live_audio import LiveAudio
from .page import Page
from .worker import SpeechWorker

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Browsers may load only from this server and what the page itself makes: Gradio has fonts and
# scripts that it would fetch from other hosts.
CONTENT_POLICY = (
    "default-src 'self' blob: data:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'self'"
)


def theme() -> gradio.themes.Base:
    """Default theme with the system's fonts, and hints that are dark enough to read."""
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    return gradio.themes.Default(**fonts).set(
        block_info_text_color="*neutral_600", block_info_text_color_dark="*neutral_300"
    )


class ContentPolicy:
    """Middleware that adds CONTENT_POLICY to every response."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                policy = (b"content-security-policy", CONTENT_POLICY.encode())
                message = {**message, "headers": [*message.get("headers", []), policy]}
            await send(message)

        await self.app(scope, receive, send_with_policy)


def head(sample_rate: int) -> str:
    """HTML for the page's head: the player."""
    player = (Path(__file__).parent / "player.js").read_text(encoding="utf-8")
    return f"<script>const speechRate = {sample_rate};\n{player}</script>"


def bypass_proxy(host: str) -> None:
    """Exclude this server from proxies: Gradio asks its own server whether it has started."""
    for name in ("no_proxy", "NO_PROXY"):
        known = os.environ.get(name) or os.environ.get("no_proxy")
        os.environ[name] = ",".join(filter(None, [known, "localhost", "127.0.0.1", host]))


def live_audio_route(live: LiveAudio) -> Route:
    def respond(request: Request) -> StreamingResponse:
        audio, headers = live.read(request.path_params["token"]), {"cache-control": "no-store"}
        return StreamingResponse(audio, media_type="application/octet-stream", headers=headers)

    return Route("/speech/{token:str}", respond)


def serve(
    worker: SpeechWorker, options: Mapping[str, object], host: str, port: int, share: bool
) -> str:
    """Start the server in threads of its own; returns the page's address.

    Audio files must be in the folder that GRADIO_TEMP_DIR names, the only one that visitors see.
    options: initial values of the fields, and options without a field, by name. Raises OSError if
    the port is in use.
    """
    live = LiveAudio()
    page = Page(Events(worker, live, options))
    bypass_proxy(host)
    app = {
        "routes": [live_audio_route(live)],
        "middleware": [Middleware(ContentPolicy)],
        "docs_url": None,
        "redoc_url": None,
    }
    disabled = ("inbrowser", "show_error", "ssr_mode", "mcp_server", "pwa", "enable_monitoring")
    _, local, shared = page.blocks.launch(
        server_name=host,
        server_port=port,
        share=share,
        prevent_thread_lock=True,
        quiet=True,
        footer_links=[],
        theme=theme(),
        head=head(worker.sample_rate),
        app_kwargs=app,
        **dict.fromkeys(disabled, False),
    )
    return shared or local
