"""Error messages of one line, with the problem and what to do about it."""

from __future__ import annotations

import textwrap


def one_line(error: BaseException) -> str:
    """Message of another library's error, shortened to be part of one line."""
    text = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return textwrap.shorten(text, 200, placeholder=" …").rstrip(". ")


def shown(value: object) -> str:
    """`repr` of any value, as long as a message can bear; of what has none, its type."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, lists in lists
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= 100 else f"{text[:99]}…"
