"""Dates in English."""

from __future__ import annotations

import re
from re import Match

from .numbers import ordinal, year
from .rules import Rule, one_of, rule, table

_MONTHS = {row[1]: row[2] for row in table("abbreviations") if row[0] == "month"}
_ALL_MONTHS = {**_MONTHS, **{each: each for each in _MONTHS.values()}}
_DAYS = {row[1]: row[2] for row in table("abbreviations") if row[0] == "day"}
_NUMBERED = list(dict.fromkeys(_MONTHS.values()))

_MONTH = rf"\b(?P<month>{one_of(_ALL_MONTHS)})\b\.?"
_DAY = r"(?P<day>[0-3]?\d)(?:st|nd|rd|th)?"
_LAST = r"(?:\s?[-–—]\s?(?P<last>[0-3]?\d)(?:st|nd|rd|th)?)?"
_YEAR = r"(?P<year>[12]\d{3})"


def _words(month: str, day: int, text: str | None = None) -> str:
    date = f"{month} {ordinal(day)}"
    return f"{date}, {year(text)}" if text else date


def _numeric(found: Match[str]) -> str:
    """A date of three numbers: the month first, as in America, unless it can't be."""
    first, second, text = int(found["first"]), int(found["second"]), found["year"]
    is_dotted = found["separator"] == "."
    is_day_first = first > 12 or is_dotted
    month, day = (second, first) if is_day_first else (first, second)
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return found.group()
    if len(text) == 2:
        if is_dotted and not _is_padded(found["first"], found["second"]):
            return found.group()  # 3.11.10 is a version or a section
        text = ("20" if int(text) < 50 else "19") + text
    return _words(_NUMBERED[month - 1], day, text)


def _is_padded(day: str, month: str) -> bool:
    """Whether a day and a month are written in two digits, at least the one that needs a zero."""
    return "0" in (day[0], month[0]) or len(day) == len(month) == 2


def _days(found: Match[str]) -> str:
    """From one day to another, "6/1–6/5"; two fractions, "1/4–1/2", are left alone."""
    month, day, last_month, last = map(int, found.groups())
    is_increasing = (month, day) < (last_month, last) and max(day, last) <= 31
    is_fraction = month < day and last_month < last and month != last_month
    if not is_increasing or is_fraction or {day, last} <= {0, 2, 3, 4, 8, 16}:
        return found.group()
    return f"{_words(_NUMBERED[month - 1], day)} to {_words(_NUMBERED[last_month - 1], last)}"


def _iso(found: Match[str]) -> str:
    month, day = int(found["month"]), int(found["day"])
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return found.group()
    date = _words(_NUMBERED[month - 1], day, found["year"])
    if found["time"] is None:
        return date + (" at " if found["t"] is not None else "")
    return f"{date} at {found['time']}" + (" U T C" if found["zone"] == "Z" else "")


def _month_first(found: Match[str]) -> str:
    if not 1 <= int(found["day"]) <= 31:
        return found.group()
    month, last = _ALL_MONTHS[found["month"]], found["last"]
    date = _words(month, int(found["day"])) + (f" to {ordinal(int(last))}" if last else "")
    return f"{date}, {year(found['year'])}" if found["year"] else date


def _day_first(found: Match[str]) -> str:
    if not 1 <= int(found["day"]) <= 31:
        return found.group()
    last = f" to {ordinal(int(found['last']))}" if found["last"] else ""
    article = "" if found["article"] else "the "
    date = f"{found['article'] or ''}{article}{ordinal(int(found['day']))}{last} of "
    date += _ALL_MONTHS[found["month"]]
    return f"{date}, {year(found['year'])}" if found["year"] else date


_WEEKDAY = one_of([*_DAYS, *_DAYS.values()])
_ABBREVIATIONS = _DAYS | {each: name for each, name in _MONTHS.items() if each != name}
_SENTENCE_END = re.compile(r"\s*$|\s+[\"'“(]?[A-Z]")
# Not "sat", "sun", "mar" and "jan" as words and names, which also end sentences.
_ONLY_SHORT = [each for each in _ABBREVIATIONS if each not in ("Sat", "Sun", "Mar", "Jan")]
_WHEN = "(?i:on|every|each|by|until|till|next|last|this|since|in|from)"

_MONTH_NAME = rf"(?:{one_of(_ALL_MONTHS)})\b\.?"
_DAY_NAME = rf"(?:{_WEEKDAY})\b\.?"
_BETWEEN_DAYS = r"(?:,? (?:and|or|to|through) |, | ?& | ?/ ?)"
_ABBREVIATED = re.compile(rf"\b(?P<name>{one_of(_ABBREVIATIONS)})\b(?P<dot>\.?)")


def _listed(found: Match[str]) -> str:
    """Days or months one after another, of which the last may end the sentence."""
    names, text = found.group(), found.string
    ends = names.endswith(".") and _SENTENCE_END.match(text, found.end())
    words = _ABBREVIATED.sub(lambda each: _ABBREVIATIONS[each["name"]], names)
    words = re.sub(r" ?/ ?", " and ", words.removesuffix("."))
    return words + ("." if ends else "")


def _abbreviated(found: Match[str]) -> str:
    ends = _SENTENCE_END.match(found.string, found.end())
    name = found["name"] or found["any"] or found["its"]
    return (found["when"] or "") + _ABBREVIATIONS[name] + ("." if ends else "")


_MOMENT = r"[T ](?P<time>\d\d:\d\d)(?::\d\d(?:\.\d+)?)?(?P<zone>Z|[+-]\d\d:?\d\d)"

_NUMBERS = r"(0?[1-9]|1[0-2])/(\d{1,2})"

DATES: list[Rule] = [
    rule(rf"(?<![\w.,/$£€-]){_NUMBERS}\s?[-–—]\s?{_NUMBERS}(?![\w/-]|[.,]\d)", _days),
    rule(
        r"(?<![\w.-])(?P<year>[12]\d{3})(?P<separator>[-/.])(?P<month>\d\d)(?P=separator)"
        rf"(?P<day>\d\d)(?:{_MOMENT}(?!\w)|T(?P<t>(?=\d\d:))|(?![\w-]))",
        _iso,
    ),
    rule(
        r"(?<![\w.,/$£€-])(?P<month>0?[1-9]|1[0-2])/(?P<year>(?:19|20)\d\d)(?![\w/-]|[.,]\d| of\b)",
        lambda found: f"{_NUMBERED[int(found['month']) - 1]} {year(found['year'])}",
    ),
    rule(rf"(?<=\b[12]\d\d\d)\s?[-–—]\s?(?=(?:\d?\d )?(?:{one_of(_ALL_MONTHS)})\b)", " to "),
    rule(
        r"(?<![\w./-])(?P<first>\d{1,2})(?P<separator>[/.-])(?P<second>\d{1,2})(?P=separator)"
        r"(?P<year>[12]\d{3}|\d\d)(?![\w/]|[.-]\d)",
        _numeric,
    ),
    rule(rf"{_MONTH} {_DAY}(?![\d:%]|,\d|\.\d){_LAST}(?:,? {_YEAR}\b)?(?!\w)", _month_first),
    rule(rf"(?P<article>\b[Tt]he )?\b{_DAY}{_LAST} (?:of )?{_MONTH}(?:,? {_YEAR}\b)?", _day_first),
    rule(
        rf"{_MONTH},? {_YEAR}\b",
        lambda found: f"{_ALL_MONTHS[found['month']]} {year(found['year'])}",
    ),
    rule(
        rf"\b(?P<from>{_WEEKDAY})\.?\s?[-–—]\s?(?P<to>{_WEEKDAY})\b\.?",
        lambda found: (
            f"{_DAYS.get(found['from'], found['from'])} to {_DAYS.get(found['to'], found['to'])}"
        ),
    ),
    rule(
        rf"\b(?P<from>{one_of(_ALL_MONTHS)})\.?\s?[-–—]\s?(?P<to>{one_of(_ALL_MONTHS)})\b",
        lambda found: f"{_ALL_MONTHS[found['from']]} to {_ALL_MONTHS[found['to']]}",
    ),
    rule(rf"\b{_DAY_NAME}(?:{_BETWEEN_DAYS}{_DAY_NAME})+", _listed),
    rule(rf"\b{_MONTH_NAME}(?:{_BETWEEN_DAYS}{_MONTH_NAME})+", _listed),
    rule(
        rf"\b(?P<name>{one_of(_ONLY_SHORT)})\.|"
        rf"(?P<when>\b(?:{_WHEN}) )(?P<its>{one_of(_ABBREVIATIONS)})\.|"
        rf"\b(?P<any>{one_of(_ABBREVIATIONS)})\.(?=[,;:]|\s[a-z\d])",
        _abbreviated,
    ),
    rule(
        rf"\b(?P<day>Mon|Tue|Tues|Wed|Thu|Thur|Thurs|Fri)\b(?:\.(?=,)|\.(?=\s\w)|(?=,? \w))"
        rf"(?=,? (?:{one_of(_NUMBERED)}|the |\d|at |to ))",
        lambda found: _DAYS[found["day"]],
    ),
]
