"""Settings in one place: a dataclass field with its default, limits and help.

Each interface (Python, command line, batch lines, server, page) reads them from here. Dataclasses
that use `setting` call `check_settings` when they are made.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from .errors import option, shown
from .peers.tables import aliases_of
from .schema import check_integer, check_number

Kind = Literal[
    "number", "integer", "choice", "switch", "text", "language", "audio", "voice", "path", "name"
]


@dataclass(frozen=True)
class Setting:
    """Description of one setting. low and high: the range; choices: the allowed texts.

    A clip ("audio"), a saved voice ("voice"), another file ("path") and what a library names
    ("name") are checked when they are used.
    """

    kind: Kind
    help: str
    low: float = 0
    high: float | None = None
    choices: tuple[str, ...] = ()
    metavar: str | None = None
    group: str = ""

    def check(self, name: str, value: object, default: object) -> None:
        """Raise ValueError for a value out of range. None is allowed where it is the default."""
        if value is None and default is None:
            return
        name = option(name)
        if self.kind == "number":
            check_number(name, value, self.low, self.high)
        elif self.kind == "integer":
            check_integer(name, value, self.low, self.high)
        elif self.kind == "choice" and value not in self.choices:
            names = " or ".join(map(repr, self.choices))
            raise ValueError(f"{name} is {shown(value)}; it must be {names}")
        elif self.kind == "switch" and not isinstance(value, bool):
            raise ValueError(f"{name} is {shown(value)}; it must be true or false")
        elif self.kind == "text" and not isinstance(value, str):
            raise ValueError(f"{name} is a {type(value).__name__}; it must be a string")


def setting(default: object, kind: Kind, help: str, **limits: Any) -> Any:
    """A dataclass field that is a setting."""
    return field(default=default, metadata={"setting": Setting(kind, help, **limits)})


def settings_of(cls: Any) -> dict[str, Setting]:
    """Settings of a dataclass by name, in order."""
    return {
        each.name: each.metadata["setting"] for each in fields(cls) if "setting" in each.metadata
    }


def accepted_names(cls: Any) -> dict[str, str]:
    """Every accepted name of a dataclass's settings -> the setting's name; aliases come first."""
    return {accepted: name for name in settings_of(cls) for accepted in (*aliases_of(name), name)}


def check_settings(instance: Any) -> None:
    """Raise ValueError for the first setting of an instance that is out of range."""
    check_values(type(instance), vars(instance))


def check_values(cls: Any, values: Mapping[str, object], prefix: str = "") -> None:
    """Raise ValueError for the first value, by name, that a dataclass's setting does not allow.

    prefix: what messages put before the names.
    """
    for each in fields(cls):
        described = each.metadata.get("setting")
        if described and each.name in values:
            described.check(f"{prefix}{each.name}", values[each.name], each.default)


def similar(name: str, known: Collection[str]) -> str | None:
    """The known name that was probably meant."""
    near = difflib.get_close_matches(name, known, 1, 0.7)
    return near[0] if near else None


def unknown_name(
    name: str,
    known: Collection[str],
    counterparts: Mapping[str, str] | None = None,
    advice: Mapping[str, str] | None = None,
) -> str:
    """Error message for a name that does not exist, with the name that was probably meant.

    counterparts: names that other programs use -> ours. advice: those without a counterpart ->
    what to do instead.
    """
    if counterparts and name in counterparts:
        return f"{name} is {counterparts[name]} here"
    if advice and name in advice:
        return f"{name} is not known: {advice[name]}"
    if near := similar(name, known):
        return f"{name} is not known; did you mean {near}?"
    return f"{name} is not known; the names are {', '.join(known)}"
