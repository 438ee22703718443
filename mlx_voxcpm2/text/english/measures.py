"""Measures, percentages and temperatures in English."""

from __future__ import annotations

import re
from collections.abc import Callable
from re import Match

from .amounts import AMOUNT, GAP, RANGE, range_words
from .numbers import cardinal, is_one
from .rules import Rule, one_of, rule, table

_UNITS = {row[0]: row[1:] for row in table("units")}
_NAMES = one_of(_UNITS)
_POWERS = {"²": "square ", "2": "square ", "³": "cubic ", "3": "cubic "}

_PER = {"d": "day", "m²": "square meter", "m2": "square meter", "m³": "cubic meter"}
_PER |= {"s²": "second squared", "cm³": "cubic centimeter", "cm²": "square centimeter"}
_PER |= {each: each for each in ("day", "week", "month", "year", "hour", "minute", "second")}
_PER |= {written: one for written, (one, _) in _UNITS.items() if "per" not in one}
_PER_NAMES = one_of(_PER)

# Units that are known only behind a power of ten, since a single letter is rarely a unit.
_LETTERS = {
    "J": "joules",
    "N": "newtons",
    "A": "amperes",
    "C": "coulombs",
    "K": "kelvin",
    "T": "teslas",
}

# A singular stands before these: "the 100 meter race".
_THINGS = "race dash sprint relay freestyle hurdles run walk swim radius disk disc drive cable bag"
_THINGS += " bottle can bulb battery box band lens screen wall fence pool file laptop butterfly"
_THINGS += " backstroke breaststroke medley final radius tank engine zone limit mark"
_PEOPLE = "people users copies views downloads subscribers followers viewers residents jobs votes"
_RESOLUTION = "run race resolution TV video display monitor screen fun"
# Units that are written with a full stop.
_DOTTED = "lb lbs oz ft in yd mi hr hrs min sec tbsp tsp gal qt pt".split()
_COMPASS = {"N": "north", "S": "south", "E": "east", "W": "west"}
# "30C" is a temperature behind or before these, else perhaps a seat.
_WARM = "to|at|of|is|was|below|above|under|over|about|around|reached|hit"
_WEATHER = "outside|inside|today|tonight|weather|water|heat|oven|furnace|day|days|degrees|and"
_MEASURABLE = "(?:tall|wide|long|deep|high|thick|by|x)"


def _measure(found: Match[str]) -> str:
    one, several = _UNITS[found["unit"]]
    following = found.string[found.end() :]
    is_single = not found["to"] and found["amount"] == "1"
    is_single = is_single or bool(found["hyphen"]) or bool(_THING.match(following))
    power = _POWERS.get(found["power"] or "", "")
    per = f" per {_PER[found['per']]}" if found["per"] else ""
    dot = found["dot"] if found["dot"] and found["unit"] not in _DOTTED else ""
    return f"{range_words(found)} {power}{one if is_single else several}{per}{dot}"


def _degrees(found: Match[str]) -> str:
    scale = {"C": " Celsius", "℃": " Celsius", "F": " Fahrenheit", "℉": " Fahrenheit"}.get(
        found["scale"] or "", ""
    )
    noun = "degree" if found["amount"] == "1" and not found["to"] else "degrees"
    return f"{range_words(found)} {noun}{scale}"


def _coordinate(found: Match[str]) -> str:
    """Degrees, minutes and seconds of an angle."""
    words = f"{cardinal(found['degrees'])} degrees {cardinal(found['minutes'])} minutes"
    return words + (f" {cardinal(found['seconds'])} seconds" if found["seconds"] else "")


def _percent(found: Match[str]) -> str:
    return f"{range_words(found)} {'per mille' if found['mark'] == '‰' else 'percent'}"


def _height(found: Match[str]) -> str:
    feet, inches = found["feet"], found["inches"]
    if int(inches) > 11:
        return f"{cardinal(feet)} minute{'' if feet == '1' else 's'} {cardinal(inches)} seconds"
    return (
        f"{cardinal(feet)} {'foot' if feet == '1' else 'feet'} "
        f"{cardinal(inches)} inch{'' if inches == '1' else 'es'}"
    )


def _inches(found: Match[str]) -> str:
    amount = found["amount"]
    return f"{cardinal(amount)} inch{'' if is_one(amount) else 'es'}"


def _large(word: str) -> Callable[[Match[str]], str]:
    return lambda found: f"{cardinal(found['amount'])} {word}"


_THING = re.compile(rf"-?\s?(?:{one_of(_THINGS.split())})s?\b")

MEASURES: list[Rule] = [
    rule(
        r"(?P<degrees>\b\d+)°\s?(?P<minutes>\d+)['′](?:\s?(?P<seconds>\d+(?:\.\d+)?)[\"″])?",
        _coordinate,
    ),
    rule(rf"(?<![\w.]){AMOUNT}m(?= (?:{one_of(_PEOPLE.split())})\b)", _large("million")),
    rule(
        rf"(?<![\w.])(?![48]K){AMOUNT}[kK]\b(?! ?(?:{one_of(_RESOLUTION.split())})s?\b)",
        _large("thousand"),
    ),
    rule(rf"(?<![\w.]){AMOUNT}(?:M\b| ?mn\b)", _large("million")),
    rule(rf"(?<![\w.]){AMOUNT} ?bn\b", _large("billion")),
    rule(r"(?<![\w.])(?P<feet>\d)['′’] ?(?P<inches>\d{1,2})(?:[\"″”]|''|(?!\w))", _height),
    rule(r"(?P<feet>\b\d+) ?(?:ft|foot|feet)\.? (?P<inches>\d+) ?in\b(?:\.(?=\s[a-z]))?", _height),
    rule(
        rf"(?<![\w./]){AMOUNT}(?:\"(?=[\s,.;)]|$)|″|in\b(?!\s\w+ing)|-in\.?(?=\s)|"
        rf" in\.?(?= {_MEASURABLE}\b)| in\.(?=\s(?:of|x|by|[a-z])))",
        _inches,
    ),
    rule(
        rf"(?<![\w.]){AMOUNT}['′](?= (?:tall|long|high|wide|deep)\b)",
        lambda found: f"{cardinal(found['amount'])} feet",
    ),
    rule(rf"{RANGE}{GAP}?[°º](?:{GAP}?(?P<scale>[CF])(?!\w))?", _degrees),
    rule(
        rf"(?P<before>\b(?:{_WARM}) )(?=[-−]?\d\d){RANGE}(?P<scale>[CF])\b",
        lambda found: found["before"] + _degrees(found),
    ),
    rule(
        rf"(?P<before>(?:Celsius|Fahrenheit) (?:and|or|to) ){RANGE}(?P<scale>[CF])\b",
        lambda found: found["before"] + _degrees(found),
    ),
    rule(rf"{RANGE}(?P<scale>[CF])(?= (?:{_WEATHER})\b)", _degrees),
    rule(
        r"(?<=degrees) ?(?P<to>[NSEW])\b(?!\.? [A-Z])|(?<=minutes) ?(?P<minute>[NSEW])\b"
        r"|(?<=seconds) ?(?P<second>[NSEW])\b",
        lambda found: f" {_COMPASS[found['to'] or found['minute'] or found['second']]}",
    ),
    rule(rf"{RANGE}{GAP}?(?P<scale>[℃℉])", _degrees),
    rule(rf"{RANGE} K(?= |[.,;)]|$)(?! [A-Z])", lambda found: f"{range_words(found)} kelvin"),
    rule(rf"{RANGE}{GAP}?(?P<mark>[%‰％])", _percent),
    rule(
        r"(?<![\w.])(?P<hours>\d{1,2})h(?P<minutes>[0-5]\d)\b",
        lambda found: f"{cardinal(found['hours'])} hours {cardinal(str(int(found['minutes'])))}",
    ),
    rule(
        rf"{RANGE}(?:(?P<hyphen>-)|{GAP})?(?P<unit>{_NAMES})"
        rf"(?P<power>(?<=[mtid])[²³]|(?<=m)[23])?(?:/(?P<per>{_PER_NAMES}))?(?![\w²³/]|-\w*\d)"
        r"(?P<dot>\.(?=\s[a-z]))?",
        _measure,
    ),
    rule(
        rf"(?P<before>times ten to the [a-z ]+?) (?P<unit>{_NAMES}|[{''.join(_LETTERS)}])"
        rf"(?:/(?P<per>{_PER_NAMES}))?(?=[\s.,;)]|$)",
        lambda found: (
            f"{found['before']} {_LETTERS.get(found['unit']) or _UNITS[found['unit']][1]}"
            + (f" per {_PER[found['per']]}" if found["per"] else "")
        ),
    ),
    rule(rf"(?<=feet|ards|iles|nces|unds)\.(?= {_MEASURABLE}\b)", ""),
    rule(
        rf"(?<=[a-z]) ?/ ?(?P<unit>{_PER_NAMES})\b(?!\w)|\bper (?P<name>{_NAMES})\b",
        lambda found: f" per {_PER[found['unit'] or found['name']]}",
    ),
]
