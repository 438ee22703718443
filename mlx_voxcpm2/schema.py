"""Conversion of JSON or YAML objects to frozen dataclasses, with missing or mistyped fields named.

Messages do not name the file; the caller adds it.
"""

from __future__ import annotations

import math
import types
import typing
from dataclasses import MISSING, fields, is_dataclass
from numbers import Integral, Real
from typing import Any


def require(condition: bool, name: str, value: object, expected: str) -> None:
    """Raise ValueError unless the condition holds: "NAME is VALUE; it must be EXPECTED"."""
    if not condition:
        raise ValueError(f"{name} is {value!r}; it must be {expected}")


def require_positive(config: object, *names: str) -> None:
    """Raise ValueError unless all attributes of these names are positive."""
    for name in names:
        require(getattr(config, name) > 0, name, getattr(config, name), "positive")


def read_dataclass(cls: Any, data: object, unknown: list[str], where: str = ""):
    """Instance of `cls` from its JSON object; names without a field are appended to `unknown`.

    where: prefix of the names. A section that is null counts as absent if it has a default. Raises
    ValueError for a field that is missing or mistyped.
    """
    if not isinstance(data, dict):
        raise ValueError(f"{where.rstrip('.')} must be an object, not {data!r}")
    hints = typing.get_type_hints(cls)
    known = {field.name: field for field in fields(cls)}
    unknown += [where + key for key in data if key not in known]
    values = {}
    for name, field in known.items():
        absent_section = is_dataclass(field.default) and data.get(name, MISSING) is None
        if name in data and not absent_section:
            values[name] = _convert(hints[name], data[name], where + name, unknown)
        elif field.default is MISSING:
            raise ValueError(f"{where}{name} is missing; take the released file")
    return cls(**values)


def _convert(hint: Any, value: Any, name: str, unknown: list[str]) -> Any:
    if is_dataclass(hint):
        return read_dataclass(hint, value, unknown, name + ".")
    if isinstance(hint, types.UnionType):
        if value is None:
            return None
        hint = next(option for option in typing.get_args(hint) if option is not type(None))
    if typing.get_origin(hint) is typing.Literal:  # the dataclass itself checks which one
        hint = type(typing.get_args(hint)[0])
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{name} must be a list, not {value!r}")
        element = typing.get_args(hint)[0]
        return tuple(_convert(element, item, name, unknown) for item in value)
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if hint is float and number:
        return float(value)
    if hint is int and number and value == int(value):
        return int(value)
    if hint in (bool, str) and isinstance(value, hint):
        return value
    raise ValueError(f"{name} must be {hint.__name__}, not {value!r}")


def check_number(name: str, value: Any, low: float, high: float | None) -> None:
    """Raise ValueError unless `value` is a finite number from low to high (None: no limit)."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not _is_within(value, low, high):
        raise ValueError(f"{name} is {value!r}; it must be a number {_range(low, high)}")


def check_integer(name: str, value: Any, low: float, high: float | None) -> None:
    """Raise ValueError unless `value` is an integer from low to high (None: no limit)."""
    integer = isinstance(value, Integral) and not isinstance(value, bool)
    if not integer or not _is_within(value, low, high):
        raise ValueError(f"{name} is {value!r}; it must be a whole number {_range(low, high)}")


def _is_within(value: Any, low: float, high: float | None) -> bool:
    return low <= value and (high is None or value <= high)


def _range(low: float, high: float | None) -> str:
    return f"of at least {low}" if high is None else f"from {low} to {high}"
