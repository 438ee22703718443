"""Measures, percentages and temperatures in English."""

from __future__ import annotations

import re
from collections.abc import Callable
from re import Match

from .amounts import AMOUNT, GAP, RANGE, TO, range_words
from .numbers import NUMBER, cardinal, is_one
from .rules import Rule, one_of, rule, table

_UNITS = {row[0]: row[1:] for row in table("units")}
_NAMES = one_of(_UNITS)
_POWERS = {"²": "square ", "2": "square ", "³": "cubic ", "3": "cubic "}

_PER = {"d": "day", "m²": "square meter", "m2": "square meter", "m³": "cubic meter"}
_PER |= {"s²": "second squared", "cm³": "cubic centimeter", "cm²": "square centimeter"}
_PER |= {"km²": "square kilometer", "mm²": "square millimeter", "dm³": "cubic decimeter"}
_PER |= {"mm³": "cubic millimeter", "ft²": "square foot", "in²": "square inch"}
_PER |= {each.translate({178: "^2", 179: "^3"}): name for each, name in _PER.items()}
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

# A quotation that is still open: a mark before a word, and none after one since.
_SINGLE = re.compile(r"(?<!\w)['‘](?!\d0s)(?=[\w$€£(+−-])(?:[^'’]|['’](?=\w))*$")
_DOUBLE = re.compile(r"(?<!\w)[\"“](?=[\w'$€£(+−-])(?:[^\"”]|(?<=\d)[\"”](?= ?[x×a-z]))*$")
_OPENED = {"'": _SINGLE, "’": _SINGLE, '"': _DOUBLE, "”": _DOUBLE}
# What has a length: "a 6' wall".
_NOUN = re.compile(
    r" (?!(?:tall|long|high|wide|deep|thick|by|to|and|or|in|of|at|from|is|was)\b)[a-z]"
)

# A singular stands before these: "the 100 meter race".
_THINGS = "race dash sprint relay freestyle hurdles run walk swim radius disk disc drive cable bag"
_THINGS += " bottle can bulb battery box band lens screen wall fence pool file laptop butterfly"
_THINGS += " backstroke breaststroke medley final radius tank engine zone limit mark"
_PEOPLE = "people users copies views downloads subscribers followers viewers residents jobs votes"
_RESOLUTION = "run race resolution TV video display monitor screen fun"
# Units that are written with a full stop.
_DOTTED = "lb lbs oz ft in yd mi hr hrs min sec tbsp tsp gal qt pt".split()
# Before a number with a unit of one letter.
_MEASURED = "at|of|draws?|drew|used?|uses|by|to|is|was|about|around|with|up to|and|needs?|rated"
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


def _length(found: Match[str]) -> str:
    """Feet or inches; the number itself where the mark ends a quotation."""
    mark = found["mark"]
    before, after = found.string[: found.start()], found.string[found.end() :]
    has_article = re.search(r"\b(?:[Aa]n?|[Tt]he) $", before[-4:]) and _NOUN.match(after)
    if not has_article and mark in _OPENED and _OPENED[mark].search(before[-500:]):
        return found.group()
    one, several = ("foot", "feet") if mark in "'’′" else ("inch", "inches")
    is_single = is_one(found["amount"]) or bool(has_article)
    until = f" to {cardinal(found['to'])}" if found["to"] else ""
    by = " by " if found["by"] else ""
    unit = one if is_single and not found["to"] and not by else several
    return f"{cardinal(found['amount'])}{until} {unit}{by}"


def _of_letter(found: Match[str]) -> str:
    """A measure whose unit is one letter: "at two amperes"."""
    several = _LETTERS[found["letter"]]
    unit = several.removesuffix("s") if is_one(found["amount"]) else several
    return f"{found['before']}{range_words(found)} {unit}"


def _large(word: str) -> Callable[[Match[str]], str]:
    return lambda found: f"{cardinal(found['amount'])} {word}"


_THING = re.compile(rf"-?\s?(?:{one_of(_THINGS.split())})s?\b")

MEASURES: list[Rule] = [
    rule(rf"(?<![\w.]){AMOUNT}m(?= (?:{one_of(_PEOPLE.split())})\b)", _large("million")),
    # A race is named by its length.
    rule(
        r"(?P<before>\b(?i:ran|runs?|running|race|raced|jogged|finished) (?:[a-z]+ ){1,3}?|"
        r"\b[Aa] (?=\d+[kK](?:\s*$|[.,;!?]| (?:and|in|on|last|this|today|yesterday|tomorrow)\b)))"
        r"(?P<amount>5|10|15|20|50|100)(?P<letter>[kK])\b",
        lambda found: f"{found['before']}{cardinal(found['amount'])} {found['letter']}",
    ),
    rule(
        rf"(?<![\w.])(?<![A-Za-z]\d-)(?![48]K){AMOUNT}[kK]\b"
        rf"(?! ?(?:{one_of(_RESOLUTION.split())})s?\b)",
        _large("thousand"),
    ),
    rule(rf"(?<![\w.])(?<![A-Za-z]-){AMOUNT}(?:M\b| ?mn\b)", _large("million")),
    rule(rf"(?<![\w.]){AMOUNT} ?bn\b", _large("billion")),
    rule(r"(?<![\w.])(?P<feet>\d)['′’] ?(?P<inches>\d{1,2})(?:[\"″”]|''|(?!\w))", _height),
    rule(r"(?P<feet>\b\d+) ?(?:ft|foot|feet)\.? (?P<inches>\d+) ?in\b(?:\.(?=\s[a-z]))?", _height),
    rule(
        rf"(?<![\w./]){AMOUNT}(?:in\b(?!\s\w+ing)|-in\.?(?=\s)|"
        rf" in\.?(?= {_MEASURABLE}\b)| in\.(?=\s(?:of|x|by|[a-z])))",
        _inches,
    ),
    # No preposition stands between a decimal and the end of a clause.
    rule(rf"(?<![\w./])(?=\d*\.\d){AMOUNT} in(?=[,;)]|\.?\s*$|\.\s+[A-Z])", _inches),
    # 6' and 12", but no number at the end of a quotation.
    rule(
        rf"(?:(?<![\w.'’])|(?<=[\d ]['’\"]x)|(?<=['’\"] x )){AMOUNT}"
        r"(?P<mark>['’\"”](?=[\s,.;:)x×–-]|$)|[′″])"
        rf"(?:{TO}(?P<to>{NUMBER})(?P=mark))?(?P<by> ?[x×] ?(?=\d))?",
        _length,
    ),
    rule(
        rf"(?P<before>\b(?:{_MEASURED}) ){RANGE} (?P<letter>[ANJ])(?=[.,;)]|\s*$|"
        r" (?:of|at|and|or|fuse|charger|current|supply)\b)",
        _of_letter,
    ),
    rule(
        rf"{RANGE} ?[lL]/100 ?km\b",
        lambda found: f"{range_words(found)} liters per hundred kilometers",
    ),
    # One measure beside another: 24-bit/96 kHz, 16 oz/473 ml.
    rule(rf"(?<=[a-z])/(?=\d+(?:\.\d+)? ?(?:{_NAMES})\b(?![/²³]))", ", "),
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
