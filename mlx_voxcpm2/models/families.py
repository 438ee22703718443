"""The families of models, by the names in config.json; a family is imported when it is needed."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

from .family import Family, architecture_of

FOLDERS = ("voxcpm2", "voxtral", "vibevoice")
"""Folders of the families, the most common one first; each has a `family.py` with FAMILY."""


def all_families() -> Iterator[Family]:
    """All families, each imported when it is reached."""
    for folder in FOLDERS:
        yield import_module(f".{folder}.family", __package__).FAMILY


def find_family(config: dict) -> Family:
    """Family of a checkpoint by config.json's object. Raises ValueError if unknown."""
    architecture, known = architecture_of(config), []
    for family in all_families():
        if architecture.lower() in family.architectures:
            return family
        known.append(repr(family.architectures[0]))
    raise ValueError(
        f"config.json: architecture is {architecture!r}; this package runs {', '.join(known)} only"
    )
