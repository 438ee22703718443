"""Flags made from the settings of a dataclass, and the dataclass made from their values.

So a new setting is a flag, with its aliases, range and default in --help, without another edit.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from ..settings import Setting, settings_of
from .shell import Parser, flag

if TYPE_CHECKING:
    from ..settings import Kind

Settings = TypeVar("Settings")
Changes = Mapping[str, Mapping[str, Any]]

_TYPES: dict[Kind, type] = {"number": float, "integer": int}
_METAVARS: dict[Kind, str] = {"number": "NUMBER", "integer": "N", "text": "TEXT"}
_SWITCHES = ("switch", "language")
# Above this a limit is the type's own, which nobody needs to be told.
_LARGEST_SHOWN = 2**32

_TITLES = {
    "sampling": "sampling",
    "sound": "finished sound",
    "guards": "guards against the model's known faults",
}


def add_setting_flags(
    parser: Parser | argparse._ArgumentGroup,
    cls: type,
    names: Iterable[str] | None = None,
    prefix: str = "",
    changes: Changes | None = None,
) -> None:
    """Add the flag --NAME for each setting of a dataclass, or for those in `names`.

    A switch that is on, or left open, by default becomes --no_NAME. prefix: put before each name.
    changes: by name, arguments of `add_argument` that differ on the command line.
    """
    defaults = {each.name: each.default for each in fields(cls)}
    for name, described in settings_of(cls).items():
        if names is None or name in names:
            _add_flag(parser, prefix + name, described, defaults[name], (changes or {}).get(name))


def add_grouped_flags(parser: Parser, cls: type) -> None:
    """Add the flags of all settings of a dataclass, under a heading for each of its groups."""
    settings = settings_of(cls)
    for group in dict.fromkeys(described.group for described in settings.values()):
        names = [name for name, described in settings.items() if described.group == group]
        heading = parser.add_argument_group(_TITLES.get(group, group))
        add_setting_flags(heading, cls, names)


def _add_flag(
    parser: Parser | argparse._ArgumentGroup,
    name: str,
    described: Setting,
    default: Any,
    changes: Mapping[str, Any] | None,
) -> None:
    arguments: dict[str, Any] = {"dest": name, "default": default}
    spelled, help = name, described.help
    if described.kind in _SWITCHES:
        is_off = default is False
        arguments["action"] = "store_true" if is_off else "store_false"
        if not is_off:
            spelled, help = f"no_{name}", f"do not {help}"
    else:
        arguments["type"] = _TYPES.get(described.kind, str)
        choices = "|".join(described.choices) or _METAVARS.get(described.kind)
        arguments["metavar"] = described.metavar or choices
        help += _range_and_default(described, default)
    arguments["help"] = help.replace("%", "%%")
    flag(parser, spelled, **arguments | dict(changes or {}))


def _range_and_default(described: Setting, default: Any) -> str:
    notes = []
    if described.high is not None and described.high < _LARGEST_SHOWN:
        notes.append(f"{described.low:g} to {described.high:g}")
    if default not in (None, ""):
        shown = f"{default:g}" if isinstance(default, float) else default
        notes.append(f"default {shown}")
    return f" ({', '.join(notes)})" if notes else ""


def read_settings(
    cls: type[Settings], args: argparse.Namespace, prefix: str = "", **values: Any
) -> Settings:
    """The dataclass of the flags; a setting without a flag has its default.

    values: fields that are known otherwise. Raises ValueError for a value out of range.
    """
    return cls(**setting_values(cls, vars(args), prefix) | values)


def setting_values(cls: type, flags: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values of flags by the names of the dataclass's settings, not checked yet."""
    return {name: flags[prefix + name] for name in settings_of(cls) if prefix + name in flags}
