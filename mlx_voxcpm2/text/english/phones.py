"""Phone numbers and other numbers that English reads digit by digit."""

from __future__ import annotations

import re
from re import Match

from .numbers import cardinal, digits
from .rules import Rule, rule


def _phone(found: Match[str]) -> str:
    extension = found.groupdict().get("extension")
    words = " ".join(_group(each) for each in re.findall(r"\d+|\+", found["number"]))
    return f"{words} extension {digits(extension)}" if extension else words


def _group(text: str) -> str:
    """Digits of a group, where hundreds, as in 1-800, are read as one number."""
    if text == "+":
        return "plus"
    is_hundreds = len(text) == 3 and text.endswith("00") and text[0] != "0"
    return cardinal(text) if is_hundreds else digits(text)


def _in_letters(found: Match[str]) -> str:
    """A number whose last digits are those below the letters of a word: 1-800-FLOWERS."""
    return f"{_phone(found)}, {found['word'].lower().replace('-', ' ')}"


def _others(text: str) -> str:
    """Further numbers to call: " or 112"."""
    return re.sub(r"\d+", lambda found: digits(found.group()), text)


_START = r"(?<![\w.,$£€/-])"
_END = r"(?![\w/]|[.,:-]\d| \d{3,4}(?!\w))"
_EXTENSION = r"(?:,? (?:ext\.?|x|extension) ?(?P<extension>\d+))?"
_CALL = r"(?i:call|dial|ring|phone|text|tel|telephone|fax|mobile|cell|hotline|whatsapp)"
_BETWEEN = r"(?:\.|:| us| me| him| her| number| is| at| on)*:? "
# What a number counts: "Call 24 hours a day.", "I got the phone 20 years ago.", "a 24-hour line";
# not "Call 112 day or night."
_THINGS = (
    "second|minute|hour|day|night|week|month|year|decade|time|word|line|page|letter|character|"
    "message|friend|person|number|name|customer|client|user|voter|member|guest|student|patient|"
    "place|store|shop|office|dollar|euro|pound|cent|buck|mile|meter|metre|inch|foot|gram|watt|"
    "volt|degree|point"
)
_PLURALS = "people|men|women|children|companies|feet|inches|percent|per cent|o'clock|megapixels"
_UNITS = r"[GMT]B|mAh|[ck]?m|mm|kg|g|%|[ap]\.?m\b|AM|PM"
_COUNTED = (
    "(?! (?:(?:more|other|different|new|full|whole|extra|additional|business|random|of) )?"
    rf"(?:(?:(?:{_THINGS})s|{_PLURALS})\b|(?:{_UNITS})(?!\w))|-(?:{_THINGS})s?\b)"
)
_IDENTIFIER = (
    r"(?:ISBN|ISSN|SSN|IBAN|PIN|(?i:zip)(?: code)?|postcode|account number|serial number|code)"
)

PHONES: list[Rule] = [
    # Numbers of America that end in a word, the number for emergencies, and long ZIP codes.
    rule(
        rf"{_START}(?P<number>(?:1-)?(?:8\d\d|900))-(?P<word>[A-Z]{{2,}}(?:-[A-Z]+)*)(?![\w-])",
        _in_letters,
    ),
    rule(
        r"(?<=^ )911(?=[.!?]* *$)|(?<![\w.,$£€-])911"
        r"(?= (?:calls?|operators?|dispatch\w*|emergency)\b)",
        "nine one one",
    ),
    rule(
        rf"(?<!\b[A-Z][A-Z] ){_START}\d{{5}}-\d{{4}}(?![\w/-]|[.,]\d)",
        lambda found: digits(found.group()),
    ),
    rule(
        r"(?P<before>\b[Ee]nding (?:in |with )?)(?P<number>(?!19|20)\d{4})(?![\w/-]|[.,]\d)",
        lambda found: found["before"] + digits(found["number"]),
    ),
    rule(
        rf"(?P<name>\b{_IDENTIFIER}(?:-1[03])?(?: is|:| no\.)? )(?P<number>\d[\d -]*[\dX])(?!\w)",
        lambda found: found["name"] + " ".join(map(digits, re.split("[ -]", found["number"]))),
    ),
    rule(
        rf"{_START}(?:\d{{4}}(?:[ -]\d{{4}}){{2,}}|\d{{3}}-\d\d-\d{{4}}|\d{{10,}})(?![\w,-]|\.\d)",
        lambda found: digits(found.group()),
    ),
    rule(
        rf"{_START}(?P<number>(?:\+?\d{{1,3}}[ .-]?)?(?:\(\d{{2,5}}\)[ .-]?|\d{{3}}[ .-])"
        rf"\d{{3,4}}[ .-]\d{{3,4}}){_END}{_EXTENSION}",
        _phone,
    ),
    rule(rf"{_START}(?P<number>\+\d{{1,3}}(?:[ .-]?\(?\d{{1,5}}\)?){{2,6}}){_END}", _phone),
    rule(rf"{_START}(?P<number>[2-9]\d{{2}}-\d{{4}})(?![\w/-])", _phone),
    rule(rf"{_START}(?P<number>0\d{{2,4}}[ /-]\d{{3,}}(?:[ -]\d{{2,}})*){_END}", _phone),
    rule(
        rf"(?P<call>\b{_CALL}{_BETWEEN})(?P<number>[\d+][\d ().-]*\d)"
        rf"(?P<more>(?:,? or \d{{3,}}|, \d{{3,}}(?= or|, \d))*)(?![\w]|[.,:/-]\d|%){_COUNTED}",
        lambda found: found["call"] + _phone(found) + _others(found["more"]),
    ),
]
