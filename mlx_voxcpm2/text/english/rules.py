"""Rules that rewrite text, and the tables that they are made from."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from importlib.resources import files
from re import Match

Rule = tuple[re.Pattern[str], Callable[[Match[str]], str] | str]


def rule(pattern: str, replacement: Callable[[Match[str]], str] | str, flags: int = 0) -> Rule:
    return re.compile(pattern, flags), replacement


def apply_rules(rules: Iterable[Rule], text: str) -> str:
    for pattern, replacement in rules:
        text = pattern.sub(replacement, text)
    return text


def table(name: str) -> list[list[str]]:
    """Rows of a table beside this file, without those that begin with `#`."""
    content = files("mlx_voxcpm2.text.english").joinpath(f"{name}.tsv").read_text(encoding="utf-8")
    return [row.split("\t") for row in content.splitlines() if row and not row.startswith("#")]


def one_of(words: Iterable[str]) -> str:
    """Pattern of any of these words, the longest that fits."""
    return "|".join(map(re.escape, sorted(words, key=len, reverse=True)))
