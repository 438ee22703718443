"""A page that lists the routes and fields, from the OpenAPI document, without scripts."""

from __future__ import annotations

import html
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI
from starlette.responses import HTMLResponse, Response

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 55rem; margin: 2rem auto }}
table {{ border-collapse: collapse; width: 100% }}
td {{ border-top: 1px solid #8888; padding: .3rem .6rem .3rem 0; vertical-align: top }}
</style>
<h1>{title} {version}</h1>
<p>{description} The whole description is <a href="openapi.json">openapi.json</a>.</p>
<h2>Routes</h2><table>{routes}</table>
<h2>Fields of POST /v1/audio/speech</h2><table>{fields}</table>
<h2>Fields of POST /v1/audio/dialogue, beside those of speech</h2><table>{dialogue}</table>
"""


def docs_page(app: FastAPI) -> Callable[[], Awaitable[Response]]:
    """Handler of the page for an application."""

    async def docs() -> Response:
        return HTMLResponse(_page(app.openapi()))

    return docs


def _page(schema: dict[str, Any]) -> str:
    routes = [
        (f"{method.upper()} {path}", operation.get("description") or operation.get("summary", ""))
        for path, operations in schema["paths"].items()
        for method, operation in operations.items()
        if method != "head"
    ]
    fields, dialogue = (_fields(schema, f"/v1/audio/{name}") for name in ("speech", "dialogue"))
    own = {name: each for name, each in dialogue.items() if name not in fields}
    info = schema["info"]
    return _PAGE.format(
        title=html.escape(info["title"]),
        version=html.escape(info["version"]),
        description=html.escape(info["description"]),
        routes=_rows(routes),
        fields=_described(fields),
        dialogue=_described(own),
    )


def _fields(schema: dict[str, Any], path: str) -> dict[str, Any]:
    """Schemas of the fields of a route's body."""
    body = schema["paths"][path]["post"]["requestBody"]
    return body["content"]["application/json"]["schema"]["properties"]


def _described(fields: dict[str, Any]) -> str:
    return _rows((name, each.get("description", "")) for name, each in fields.items())


def _rows(cells: Any) -> str:
    return "".join(
        f"<tr><td><code>{html.escape(name)}</code><td>{html.escape(text)}" for name, text in cells
    )
