"""Errors in the form that clients of OpenAI's service show."""

from __future__ import annotations

import math
from typing import Any

from starlette.responses import JSONResponse


class RequestError(Exception):
    """Error with the HTTP status of its answer."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        retry_after: float | None = None,
    ):
        super().__init__(message)
        self.status, self.code, self.retry_after = status, code, retry_after

    def response(self, headers: dict[str, str] | None = None) -> JSONResponse:
        headers = dict(headers or {})
        if self.retry_after is not None:
            headers["Retry-After"] = str(math.ceil(self.retry_after))
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse({"error": self.body}, self.status, headers)

    @property
    def body(self) -> dict[str, Any]:
        kinds = {401: "authentication_error", 429: "rate_limit_error", 404: "not_found_error"}
        kind = kinds.get(self.status)
        if kind is None:
            kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"message": str(self), "type": kind, "param": None, "code": self.code}


ERROR_RESPONSE: dict[str, Any] = {
    "description": "an error, in OpenAI's form",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["error"],
                "properties": {
                    "error": {
                        "type": "object",
                        "required": ["message", "type", "param", "code"],
                        "properties": {
                            "message": {"type": "string"},
                            "type": {"type": "string"},
                            "param": {"type": "null"},
                            "code": {"type": ["string", "null"]},
                        },
                    }
                },
            }
        }
    },
}
"""`RequestError.response`, for the OpenAPI document."""


class ClientGone(RequestError):
    """The client has disconnected, and nobody reads the answer."""

    def __init__(self) -> None:
        super().__init__(499, "the client has disconnected")
