"""Errors are one line that says what is wrong and what to do."""

from __future__ import annotations

import textwrap


def one_line(error: BaseException) -> str:
    """What an error of another library says, as part of such a line."""
    text = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return textwrap.shorten(text, 200, placeholder=" …").rstrip(". ")
