"""The words that the package's own small voice has learnt; it can't say others."""

from __future__ import annotations

from .hub import DEMO_FOLDER


def known_words() -> list[str]:
    return (DEMO_FOLDER / "words.txt").read_text(encoding="utf-8").split()


def unknown_words(text: str) -> list[str]:
    """Those of a text; Chinese ones are single characters. What it is cased as matters."""
    known = set(known_words())
    words = text.split()
    return [word for word in words if word not in known and not set(word) <= known]
