"""The families of models, by the names in config.json; a family is imported when it is needed."""

from __future__ import annotations

from importlib import import_module

from .family import Family

FOLDERS = ("voxcpm2", "vibevoice")
"""Folders of the families, the most common one first; each has a `family.py` with FAMILY."""


def find_family(architecture: str) -> Family:
    """Family by config.json's `architecture` or `model_type`. Raises ValueError if unknown."""
    known = []
    for folder in FOLDERS:
        family: Family = import_module(f".{folder}.family", __package__).FAMILY
        if architecture.lower() in family.architectures:
            return family
        known.append(repr(family.architectures[0]))
    raise ValueError(
        f"config.json: architecture is {architecture!r}; this package runs {', '.join(known)} only"
    )
