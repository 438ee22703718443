"""Powers, scientific notation and signs of mathematics in English."""

from __future__ import annotations

import re
import unicodedata
from re import Match

from .numbers import NUMBER, cardinal, ordinal
from .rules import Rule, rule

_SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺"
_PLAIN = str.maketrans(f"{_SUPERSCRIPTS}−", "0123456789-+-")


def _power(text: str) -> str:
    value = int(text.translate(_PLAIN))
    return f"minus {cardinal(str(-value))}" if value < 0 else ordinal(value)


def _scientific(found: Match[str]) -> str:
    sign = "minus " if found["sign"] else ""
    return f"{sign}{cardinal(found['amount'])} times ten to the {_power(_exponent(found))}"


def _exponent(found: Match[str]) -> str:
    groups = found.groupdict()
    return groups.get("raised") or groups.get("caret") or groups["power"]


def _raised(found: Match[str]) -> str:
    base, power = found["base"], _exponent(found)
    words = cardinal(base) if base.isdigit() else base
    short = {"2": "squared", "3": "cubed"}.get(power.translate(_PLAIN))
    return f"{words} {short or 'to the ' + _power(power)}"


_EXPONENT = rf"(?:(?P<raised>[{_SUPERSCRIPTS}]+)|\^\(?(?P<caret>[-−+]?\d+)\)?)"
_SIGN = r"(?P<sign>(?<![\w)])[-−])?"

_TERM = r"(?:\d+(?:\.\d+)?|[a-z])"
_SPOKEN_SIGNS = {"-": "minus", "−": "minus", "–": "minus", "/": "divided by", "*": "times"}


def _calculation(found: Match[str]) -> str:
    """A calculation with its signs in words; 8 - 3 alone may be a range or a score."""
    text = found.group()
    if not re.search(r"[=*+÷]", text):
        return text
    return re.sub(r" ([-−–/*]) ", lambda sign: f" {_SPOKEN_SIGNS[sign[1]]} ", text)


SCIENCE: list[Rule] = [
    rule(
        rf"(?:(?<=[ (])|(?<== )){_TERM}(?: [-−–+*/÷=] {_TERM}){{2,20}}(?![\w:/$€£%-]|[.,]\d)",
        _calculation,
    ),
    rule(rf"{_SIGN}(?<![\w.])(?P<amount>{NUMBER}) ?[×xX*·⋅] ?10{_EXPONENT}", _scientific),
    rule(rf"{_SIGN}(?<![\w.])(?P<amount>{NUMBER})[eE](?P<power>[-−+]?\d{{1,3}})\b", _scientific),
    rule(rf"(?<![\w.])10{_EXPONENT}(?!\w)", lambda found: f"ten to the {_power(_exponent(found))}"),
    rule(
        r"(?<!\d )(?<!\d [a-z])(?<!\d[a-z])(?!m(?<=/m)|m(?<=/[cdkm]m)|t(?<=/ft))"
        r"(?P<base>\b[A-Za-z]|\b\d+|\)|(?<=[a-z])[a-z])"
        rf"{_EXPONENT}(?!\w)",
        _raised,
    ),
]


def _greek(found: Match[str]) -> str:
    """Name of a Greek letter, alone or before another letter: "delta x"."""
    letter = found["letter"]
    name = "mu" if letter == "µ" else unicodedata.name(letter).split()[-1].lower()
    following = found.string[found.end() : found.end() + 1]
    return name.replace("lamda", "lambda") + (" " if following.isalnum() else "")


# Signs between numbers, before the numbers are put into words.
OPERATORS: list[Rule] = [
    rule(r"(?<=[\d)]) ?\+ ?(?=[\d(])", " plus "),
    rule(r"(?<=[\d)]) ?[x×✕] ?(?=[\d(])|(?<=[\d)]) ?[*·⋅] ?(?=[\d(])", " times "),
    rule(r"(?<=[\d)]) ?[-−–] ?(?=\d+(?:\.\d+)? ?=)|(?<=[\d)]) − (?=\d)", " minus "),
    rule(r"(?<=[\d)]) ?[/:÷] ?(?=\d+(?:\.\d+)? ?=)|(?<=\d) ?÷ ?(?=\d)", " divided by "),
    rule(r"(?<=[\d)])\s*[≈≅]\s*(?=[\w.])", " is approximately "),
    rule(rf"(?<![\w.])(?={NUMBER}[x×]\b)([\d.,]+)[x×]\b", r"\1 times"),
    rule(r"(?<![^\W\d_])(?P<letter>[Α-Ωα-ωµ])(?![^\W\d_]{2}|[Α-Ωα-ω])", _greek),
]


SYMBOLS: list[Rule] = [
    rule(r"(?<=meters) x (?=\w)|(?<=inches) x (?=\w)|(?<=feet) x (?=\w)", " by "),
    rule(r" ?± ?", " plus or minus "),
    rule(r"(?<!\w)\+(?=\w)", "plus "),
    rule(r"(?<=\b[A-D])-(?=[.,;!?)]|\s*$| (?:grade|student|on|in|average)s?\b)", " minus"),
    rule(r"(?<=\w) *\+ +(?=\w)", " plus "),
    rule(r"(?<=[a-z])\+(?!\w)", " plus"),
    rule(r"\s*[≤⩽]\s*|\s*<=\s*", " less than or equal to "),
    rule(r"\s*[≥⩾]\s*|\s*>=\s*", " greater than or equal to "),
    rule(r"\s*(?:≠|!=)\s*", " is not equal to "),
    rule(r"(?<=\b\w)\s*[≈≅]\s*", " is approximately "),
    rule(r"(?<=\w)\s*[≈≅]\s*", " approximately "),
    rule(r"(?<=\w)\s*=\s*(?=\?)", " equals what"),
    rule(r"(?<![<>=!])\s*={1,2}(?!>)\s*(?=[\w(√-])", " equals "),
    rule(r"\s*<\s*(?=[\w(])(?!-)", " less than "),
    rule(r"\s*(?<![-=])>\s*(?=[\w(])", " greater than "),
    rule(r"(?<=\w)\s*÷\s*(?=\w)", " divided by "),
    rule(r"(?<=\w)\s*×\s*(?=\w)|(?<=\w) \* (?=\w)", " times "),
    rule(r"√\s*", "square root of "),
    rule(r"\s*&\s*", " and "),
    rule(r"\s*∞", " infinity"),
    rule(r"\s*%", " percent"),
    rule(r"(?<!\w)#(?=[^\W\d])", "hashtag "),
    rule(r"§{1,2}\s*", "section "),
    rule(r"(?<![\w~])[~≈] ?(?=\w)", "about "),
    rule(r"\s*[™®]", ""),
    rule(r"©\s*", "copyright "),
    rule(r"(?<=\w)_(?=\w)", " underscore "),
    rule(r"(?<=\w) @ (?=\w)|(?<=\s)@(?=\w)", " at "),
    rule("°", " degrees "),
    rule("²", " squared"),
    rule("³", " cubed"),
]
