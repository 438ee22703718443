"""Conversion of JSON or YAML objects to frozen dataclasses, with missing or mistyped fields named.

Files may come from strangers, so the limits of depth, number and size stand here, for all of them.
Messages do not name the file; the caller adds it.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterable
from dataclasses import MISSING, fields, is_dataclass
from numbers import Integral, Real
from typing import Any

from .errors import one_line, shown

LARGEST_INTEGER = 2**63 - 1
LARGEST_NUMBER = 1e30
LARGEST_SIZE = 2**24
"""Limit of what a configuration counts: channels, tokens, positions."""
MOST_LAYERS = 1000
DEEPEST = 32
"""Lists and objects within each other, in JSON or YAML."""
MOST_VALUES = 1_000_000
"""Values of a JSON or YAML file together."""


def parse_json(data: bytes | str) -> Any:
    """Value of JSON in UTF-8, within the limits. Raises ValueError, with the reason alone."""
    try:
        value = json.loads(data.decode("utf-8-sig") if isinstance(data, bytes) else data)
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(one_line(error)) from None
    except ValueError:
        raise ValueError("a number in it has thousands of digits") from None
    check_plain(value)
    return value


def check_plain(value: Any) -> None:
    """Raise ValueError for a tree of JSON or YAML that is too deep or large, or has odd keys.

    Walks level by level, so that depth is no danger here.
    """
    level, count = [value], 0
    for _ in range(DEEPEST + 1):
        inner: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                if odd := [key for key in each if not isinstance(key, str)]:
                    raise ValueError(f"{shown(odd[0])} is a name in it; names must be texts")
                inner.extend(each.values())
            elif isinstance(each, list):
                inner.extend(each)
            elif isinstance(each, int) and abs(each) > 2 * LARGEST_INTEGER + 1:
                raise ValueError("a number in it is too large")
        count += len(inner)
        if count > MOST_VALUES:
            raise ValueError(f"it has more than {MOST_VALUES} values")
        if not inner:
            return
        level = inner
    raise ValueError(f"it is nested more than {DEEPEST} deep")


def require(condition: bool, name: str, value: object, expected: str) -> None:
    """Raise ValueError unless the condition holds: "NAME is VALUE; it must be EXPECTED"."""
    if not condition:
        raise ValueError(f"{name} is {shown(value)}; it must be {expected}")


def require_positive(config: object, *names: str, most: float = LARGEST_SIZE) -> None:
    """Raise ValueError unless all attributes of these names are positive, and at most `most`."""
    for name in names:
        value = getattr(config, name)
        require(value > 0, name, value, "positive")
        require(value <= most, name, value, f"at most {most}")


def require_sizes(name: str, values: Iterable[int], most: int, count: int = 64) -> None:
    """Raise ValueError unless a list has 1 to `count` values, each positive and at most `most`."""
    values = list(values)
    require(bool(values) and min(values) > 0, name, values, "positive integers")
    require(max(values) <= most and len(values) <= count, name, values, f"at most {most} each")


def read_dataclass(cls: Any, data: object, unknown: list[str], where: str = ""):
    """Instance of `cls` from its JSON object; names without a field are appended to `unknown`.

    where: prefix of the names. A section that is null counts as absent if it has a default. Raises
    ValueError for a field that is missing or mistyped.
    """
    if not isinstance(data, dict):
        raise ValueError(f"{where.rstrip('.')} must be an object, not {shown(data)}")
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
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        if value is None:
            return None
        hint = next(option for option in typing.get_args(hint) if option is not type(None))
    if typing.get_origin(hint) is typing.Literal:  # the dataclass itself checks which one
        hint = type(typing.get_args(hint)[0])
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{name} must be a list, not {shown(value)}")
        element = typing.get_args(hint)[0]
        return tuple(_convert(element, item, name, unknown) for item in value)
    number = isinstance(value, int | float) and _is_number(value)
    if hint is float and number:
        return float(value)
    if hint is int and number and value == int(value) and abs(value) <= LARGEST_INTEGER:
        return int(value)
    if hint in (bool, str) and isinstance(value, hint):
        return value
    raise ValueError(f"{name} must be {hint.__name__}, not {shown(value)}")


def check_number(name: str, value: Any, low: float, high: float | None) -> None:
    """Raise ValueError unless `value` is a finite number from low to high (None: no limit)."""
    if not _is_number(value) or not _is_within(value, low, high):
        raise ValueError(f"{name} is {shown(value)}; it must be a number {_range(low, high)}")


def check_integer(name: str, value: Any, low: float, high: float | None) -> None:
    """Raise ValueError unless `value` is an integer from low to high (None: no limit)."""
    integer = isinstance(value, Integral) and not isinstance(value, bool)
    if integer and high is None and int(value) > LARGEST_INTEGER:
        high = LARGEST_INTEGER
    if not integer or not _is_within(value, low, high):
        raise ValueError(f"{name} is {shown(value)}; it must be a whole number {_range(low, high)}")


def _is_number(value: Any) -> bool:
    """Whether this is a number of usual size: not NaN, not infinite, not 1 with 400 zeros."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    number: Any = value  # an int of any length compares, where a float would overflow
    return -LARGEST_NUMBER <= number <= LARGEST_NUMBER


def _is_within(value: Any, low: float, high: float | None) -> bool:
    return low <= value and (high is None or value <= high)


def _range(low: float, high: float | None) -> str:
    return f"of at least {low}" if high is None else f"from {low} to {high}"
