"""Answers of the page's HTTP interface, errors among them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ..errors import one_line
from ..server.errors import RequestError
from ..server.reading import MAX_BODY_BYTES
from .inputs import LONGEST_TEXT, FieldError, in_plain_words
from .protection import cookie_name, refused
from .visitors import Busy

logger = logging.getLogger("mlx_voxcpm2")

UPLOAD_PATH = "/page/clips"
"""Path to which clips are sent."""

_CLIP_ERRORS = {
    408: "The upload did not arrive in time; try again.",
    413: f"That is more than {MAX_BODY_BYTES >> 20} MB; give a clip of 5 to 30 s.",
}
_FORM_ERRORS = {
    408: "The request did not arrive in time; try again.",
    413: f"That is too long; {LONGEST_TEXT} characters of text are the limit.",
}

Handler = Callable[[Any, Request], Awaitable[Response]]


def answering(handler: Handler) -> Any:
    """A handler that answers errors as JSON: one line, and the field that it is about."""

    @wraps(handler)
    async def answer(self: Any, request: Request) -> Response:
        try:
            return await handler(self, request)
        except KeyError:
            return refused(404, "That is not here any more; reload the page.", "")
        except Exception as error:
            is_upload = request.url.path.endswith(UPLOAD_PATH)
            status, message, field = described(error, is_upload)
            return refused(status, message, field)

    return answer


def described(error: Exception, is_upload: bool = False) -> tuple[int, str, str]:
    """HTTP status, line for the visitor and field of an error. Unexpected ones are logged.

    is_upload: the request's body was a clip, not the form.
    """
    if isinstance(error, FieldError):
        return 422, str(error), error.field
    if isinstance(error, RequestError):
        messages = _CLIP_ERRORS if is_upload else _FORM_ERRORS
        is_of_clip = is_upload and error.status in messages
        return error.status, messages.get(error.status, str(error)), "clip" if is_of_clip else ""
    if isinstance(error, Busy):
        return 503, str(error), ""
    if isinstance(error, ValueError | OSError):
        return 422, in_plain_words(" ".join(str(error).split())), ""
    logger.error("the page failed", exc_info=error)
    return 500, f"That went wrong ({one_line(error)}); the terminal says more.", ""


def attachment(data: bytes, media_type: str, name: str) -> Response:
    """A file that browsers save by this name."""
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(data, media_type=media_type, headers=headers)


def sound(data: bytes) -> Response:
    """A WAV file to be played."""
    return Response(data, media_type="audio/wav", headers={"cache-control": "no-store"})


def set_cookie(
    response: Response, request: Request, purpose: str, value: str, age: int | None = None
) -> None:
    name = cookie_name(request.scope, purpose)
    is_https = request.url.scheme == "https"
    response.set_cookie(name, value, age, httponly=True, samesite="strict", secure=is_https)
