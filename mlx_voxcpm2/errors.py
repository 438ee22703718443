"""Error messages of one line, with the problem and what to do about it."""

from __future__ import annotations

import textwrap


def one_line(error: BaseException) -> str:
    """Message of another library's error, shortened to be part of one line."""
    text = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return textwrap.shorten(text, 200, placeholder=" …").rstrip(". ")
