"""Years, eras and decades in English."""

from __future__ import annotations

import re
from re import Match

from .numbers import START, cardinal, decade, two_digits, year
from .rules import Rule, rule

_DECADE = r"(?P<tens>[12]\d\d0|[1-9]0)['’]?s\b"

DECADES: list[Rule] = [
    rule(rf"{START}(?P<tens>[12]\d\d0)['’]?s\b", lambda found: decade(found["tens"])),
    rule(r"(?<!\w)['’‘](?P<tens>\d0)['’]?s\b", lambda found: decade(found["tens"])),
    rule(
        r"(?P<before>\b(?:(?i:the|her|his|their|my|your|our|mid|early|late|in|is|was|of)[ -]){1,2})"
        rf"{_DECADE}",
        lambda found: found["before"] + decade(found["tens"]),
    ),
    rule(
        r"(?P<before>\b(?i:the) (?!last|first|next|final|other)[a-z]+ )(?P<tens>[2-9]0)s\b",
        lambda found: found["before"] + decade(found["tens"]),
    ),
    rule(r"(?<=\bthe )(?P<tens>[1-9]00)s\b", lambda found: decade(found["tens"])),
    rule(
        rf"(?P<before>(?:ies|tens|hundreds|thousands)(?:,? (?:and|or|to|into) |, |\s?[-–—]\s?)"
        rf"(?:early |late |mid-)?){_DECADE}",
        lambda found: re.sub("[-–—] ?$", " to ", found["before"]) + decade(found["tens"]),
    ),
]

_YEAR = r"(?:1[1-9]|20)\d\d"
_ERA_YEAR = r"(?:\d{1,3}(?:,\d{3})+|\d{1,6})"
_ERA = r"(?P<era>(?:B\.?C\.?E|B\.?C|A\.?D|C\.?E)\b\.?)"

# A number before these counts them: "1500 people".
_COUNTED = (
    r"(?:\w+ )?(?:[a-z]{2,}[^us]s|people|men|women|children|sheep|fish|cattle|percent|feet)\b"
)


def _span(found: Match[str]) -> str:
    last = found["last"]
    end = two_digits(last) if len(last) == 2 else year(last)
    return f"{year(found['first'])} to {end}"


def _with_era(found: Match[str]) -> str:
    era = found["era"]
    letters = " ".join(era.replace(".", ""))
    is_end = re.match(r"\s*$|\s+[A-Z]", found.string[found.end() :])
    last = f" to {_of_era(found['last'])}" if found["last"] else ""
    end = "." if era.endswith(".") and is_end else ""
    return f"{_of_era(found['first'])}{last} {letters}{end}"


def _of_era(text: str) -> str:
    """A year before or after Christ: those with thousands are counted, not read in pairs."""
    return cardinal(text) if "," in text or len(text) > 4 else year(text)


YEAR_SPANS: list[Rule] = [
    rule(
        rf"{START}(?P<first>[12]\d{{3}})\s?[-–—/]\s?(?P<last>[12]\d{{3}})(?![\w/]|[.,-]\d)", _span
    ),
    rule(rf"{START}(?P<first>{_YEAR})[-–—/](?P<last>\d\d)(?![\w/]|[.,-]\d)", _span),
]

YEARS: list[Rule] = [
    rule(r"(?<!\w)['’‘](?P<last>\d\d)\b(?!['’])", lambda found: two_digits(found["last"])),
    rule(
        rf"(?<![\d][.,])\b(?P<first>{_ERA_YEAR})(?:\s?[-–—]\s?(?P<last>{_ERA_YEAR}))? ?{_ERA}",
        _with_era,
    ),
    rule(r"(?<=\b[AB] [CD])\s?[-–—]\s?(?=\w)", " to "),
    rule(r"\b(?:AD|A\.D\.) ?(?P<year>\d{1,4})\b", lambda found: f"A D {year(found['year'])}"),
    rule(
        rf"{START}(?P<year>{_YEAR})(?![\w%°/:]|[.,]\d|-\d|\s?[=+*×÷]| {_COUNTED})",
        lambda found: year(found["year"]),
    ),
    rule(r"(?<=\()(?P<year>1[1-9]\d\d|10[1-9]\d)(?=\))", lambda found: year(found["year"])),
    # A year begins a sentence; what follows counts nothing.
    rule(
        r"(?:(?<=^ )|(?<=[.!?] ))(?P<year>10[1-9]\d)"
        r"(?= (?:and|was|is|saw|brought|marks?|marked|changed|to|in)\b|[:;]|[.,](?!\d)| ?[–—])",
        lambda found: year(found["year"]),
    ),
    rule(
        r"(?P<before>\b(?i:in|since|until|till|by|of|from|before|after|around|circa|c\.|year) )"
        r"(?P<year>(?:1\d|20)\d\d)(?![\w%°/:-]|[.,]\d)",
        lambda found: (
            found["before"]
            + (year(found["year"]) if found["year"] != "1000" else cardinal(found["year"]))
        ),
    ),
]
