"""Degrees in English: temperatures, angles and coordinates."""

from __future__ import annotations

import re
from re import Match

from .amounts import GAP, RANGE, range_words
from .numbers import cardinal
from .rules import Rule, rule

_COMPASS = {"N": "north", "S": "south", "E": "east", "W": "west"}

# "30C" is a temperature behind or before these, else perhaps a seat.
_WARM = "to|at|of|is|was|between|below|above|under|over|about|around|reached|hit|heated|cooled"
_WARM += "|it['’]s|temperature|temp|highs?|lows?|high:|low:|temperature:|temp:"
_COLD = "below|above|under|over|reached|between"
_WEATHER = "outside|inside|today|tonight|weather|water|heat|oven|furnace|day|days|degrees"
_SEATS = re.compile(r"(?i:seat|row|gate|room|flat|apartment|unit|class|classe|grade|page)s? $")

_ANGLES = re.compile(r" (?:angles?|turns?|bends?|views?|rotations?|slopes?|heat|arcs?|weather)\b")


def _degrees(found: Match[str]) -> str:
    scale = {"C": " Celsius", "℃": " Celsius", "F": " Fahrenheit", "℉": " Fahrenheit"}.get(
        found["scale"] or "", ""
    )
    is_single = found["amount"] == "1" or (
        not scale and _ANGLES.match(found.string, found.end()) is not None
    )
    noun = "degree" if is_single and not found["to"] else "degrees"
    return f"{range_words(found)} {noun}{scale}"


def _after_word(found: Match[str]) -> str:
    """A temperature with the words before it, unless these say that it is something else."""
    before = found["before"] or ""
    return found.group() if _SEATS.search(before) else before + _degrees(found)


def _coordinate(found: Match[str]) -> str:
    """Degrees, minutes and seconds of an angle."""
    words = f"{cardinal(found['degrees'])} degrees {cardinal(found['minutes'])} minutes"
    return words + (f" {cardinal(found['seconds'])} seconds" if found["seconds"] else "")


_CHAINED = rule(
    rf"(?P<before>(?:Celsius|Fahrenheit)(?:,? (?:and|or|to)|,) ){RANGE}(?P<scale>[CF])\b",
    _after_word,
)

TEMPERATURES: list[Rule] = [
    rule(r"(?<=\d) ?deg\.? ?(?=[CF]\b)", "°"),
    rule(
        r"(?P<degrees>\b\d+)°\s?(?P<minutes>\d+)['′](?:\s?(?P<seconds>\d+(?:\.\d+)?)[\"″])?",
        _coordinate,
    ),
    rule(rf"{RANGE}{GAP}?[°º](?:{GAP}?(?P<scale>[CF])(?!\w))?", _degrees),
    rule(
        rf"(?P<before>\b(?i:{_WARM}) (?=[-−]?\d\d)|\b(?i:{_COLD}) |\b[Ff]rom (?=\S+[CF] to ))"
        rf"{RANGE}(?P<scale>[CF])\b",
        _after_word,
    ),
    rule(
        rf"(?P<before>\b[A-Za-z]+ )?{RANGE}(?P<scale>[CF])"
        r"(?=,? (?:(?:and|or|to) )?[-−]?\d\d?(?P=scale)\b)",
        _after_word,
    ),
    *[_CHAINED] * 3,
    rule(rf"{RANGE}(?P<scale>[CF])(?= (?:{_WEATHER})\b)", _degrees),
    rule(
        r"(?<=degrees) ?(?P<to>[NSEW])\b(?!\.? [A-Z])|(?<=minutes) ?(?P<minute>[NSEW])\b"
        r"|(?<=seconds) ?(?P<second>[NSEW])\b",
        lambda found: f" {_COMPASS[found['to'] or found['minute'] or found['second']]}",
    ),
    # All of the text, or with its sign, it is no seat.
    rule(rf"(?<=^ )(?=[-−+]?\d\d){RANGE}(?P<scale>[CF])(?=[.!?]* *$)", _degrees),
    rule(rf"(?<=[\s(])(?=[-−]\d){RANGE}(?P<scale>[CF])\b", _degrees),
    rule(rf"{RANGE}{GAP}?(?P<scale>[℃℉])", _degrees),
    rule(rf"{RANGE} K(?= |[.,;)]|$)(?! [A-Z])", lambda found: f"{range_words(found)} kelvin"),
]
