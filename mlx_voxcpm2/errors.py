"""Error messages of one line, with the problem and what to do about it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_spelling: ContextVar[Callable[[str], str]] = ContextVar("spelling", default=str)
"""How messages spell the names of options: as in Python, unless a command says otherwise."""


def option(name: str) -> str:
    """An option's name in a message: as_is in Python, --as_is for the user of a command."""
    return _spelling.get()(name)


@contextmanager
def options_spelled(spelling: Callable[[str], str] = str) -> Iterator[None]:
    """Spell the options' names in messages of the block by a function; by default as in Python.

    Holds for this thread only: in the threads of a server names are those of its requests.
    """
    token = _spelling.set(spelling)
    try:
        yield
    finally:
        _spelling.reset(token)


def output_error(message: str) -> ValueError:
    """Error for an output that can't be written."""
    return ValueError(f"{option('output')}: {message}")


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
