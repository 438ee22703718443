"""Numbers, percentages, money and measures of other languages in words, by Unicode's rules.

Only readings that no grammar changes: ordinals, dates and numbers with letters stay as they are.
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache
from re import Match

from .number_words import NumberForm, number_words

# Languages that write 1.234,5; the others write 1,234.5.
_COMMA = frozenset(
    "af az be bg bs ca cs da de el es et fi fo fr gl hr hu hy id is it ka kk ky lt lv mk nb nl nn "
    "no pl pt ro ru sk sl sq sr sv tr uk vi".split()
)
# Languages whose years have a reading of their own.
_YEARS = frozenset("da de nb nl nn no sv".split())

_CURRENCIES = {"€": "EUR", "$": "USD", "£": "GBP", "¥": "JPY", "₽": "RUB", "₺": "TRY", "₴": "UAH"}
_CURRENCIES |= {"₹": "INR", "₩": "KRW", "zł": "PLN", "Kč": "CZK", "Ft": "HUF"}
_UNITS = {"km/h": "kilometer-per-hour", "km": "kilometer", "m": "meter", "cm": "centimeter"}
_UNITS |= {"mm": "millimeter", "kg": "kilogram", "g": "gram", "mg": "milligram", "l": "liter"}
_UNITS |= {
    "ml": "milliliter",
    "°C": "celsius",
    "°F": "fahrenheit",
    "%": "percent",
    "GB": "gigabyte",
}
_UNITS |= {"MB": "megabyte", "min": "minute", "kWh": "kilowatt-hour", "m²": "square-meter"}
_UNITS |= {"км": "kilometer", "кг": "kilogram", "см": "centimeter", "мм": "millimeter"}
_UNITS |= {"км/ч": "kilometer-per-hour", "мин": "minute", "л": "liter", "m/s": "meter-per-second"}
_UNITS |= {"km²": "square-kilometer", "ha": "hectare", "Hz": "hertz", "kHz": "kilohertz"}

_NUMBER = r"\d{1,3}(?:[.,\u00a0\u2009\u202f ]\d{3})+(?!\d)(?:[.,]\d+)?|\d+(?:[.,]\d+)?"
_NAMES = "|".join(sorted(map(re.escape, [*_UNITS, *_CURRENCIES]), key=len, reverse=True))
_SYMBOLS = "|".join(map(re.escape, (each for each in _CURRENCIES if not each.isalpha())))
_AMOUNT = re.compile(
    rf"(?<![\w.,:/'’-])(?P<sign>[-−])?(?:(?P<before>{_SYMBOLS})\s?)?(?P<number>{_NUMBER})"
    rf"(?:\s?(?P<name>{_NAMES})(?!\w|/)|(?![\w/°ºª%'’-]|[.,:]\d|\.(?=\s?\w)|\s?–\s?\d))"
)

# What a number counts.
_COUNTED = re.compile(r"\s[^\W\d_]")


def with_number_words(text: str, language: str) -> str:
    """Text with its plain numbers and amounts in words.

    language: one of `number_words.LANGUAGES`.
    """
    return _AMOUNT.sub(lambda found: _words(found, language), text)


def _words(found: Match[str], language: str) -> str:
    written, name = found["number"], found["name"] or found["before"]
    value = _value(written, language)
    if value is None or (written[0] == "0" and written.isdigit() and value):
        return found.group()
    sign = -1 if found["sign"] else 1
    if name:
        return _amount(value, sign, name, language)
    if language in _YEARS and re.fullmatch(r"1[1-9]\d\d", written):
        return number_words(sign * value, language, "year")
    is_counting = _COUNTED.match(found.string, found.end())
    if is_counting and not _is_invariable(value, language):
        return found.group()
    return number_words(sign * value, language)


def _amount(value: int | Decimal, sign: int, name: str, language: str) -> str:
    """An amount in words; its number stays where its form depends on what is counted."""
    cents = 0
    if name in _CURRENCIES and isinstance(value, Decimal) and value.as_tuple().exponent == -2:
        value, cents = int(value), int(value * 100) % 100
    words = number_words(sign * value, language)
    words = words if _is_invariable(value, language) else str(sign * value)
    phrase = _phrase(value, name, language).replace("\0", words)
    return f"{phrase} {number_words(cents, language)}" if cents else phrase


def _is_invariable(value: int | Decimal, language: str) -> bool:
    """Whether the number has one form for all genders: not 1 and 21, or 2 in Russian."""
    forms: tuple[NumberForm, ...] = ("masculine", "feminine", "neuter", "cardinal")
    return len({number_words(value, language, form) for form in forms}) == 1


def _value(written: str, language: str) -> int | Decimal | None:
    """Value of a number as this language writes it, or None if it can't be told."""
    thousands, point = (".", ",") if language in _COMMA else (",", ".")
    plain = re.sub(rf"(?<=\d)[{re.escape(thousands)}\s](?=\d{{3}}(?!\d))", "", written)
    plain = plain.replace(point, ".", 1)
    if not re.fullmatch(r"\d+(\.\d+)?", plain):
        return None
    return Decimal(plain) if "." in plain else int(plain)


@lru_cache(maxsize=10_000)
def _phrase(value: int | Decimal, name: str, language: str) -> str:
    """A unit's or currency's name in the form for this amount, with NUL for the number."""
    from icu4py.messageformat import MessageFormat

    unit = f"unit/{_UNITS[name]}" if name in _UNITS else f"currency/{_CURRENCIES[name]}"
    pattern = f"{{n,number,::{unit} unit-width-full-name group-off .######}}"
    phrase = str(MessageFormat(pattern, language).format({"n": value}))
    return re.sub(r"[\d٠-٩۰-۹०-९০-৯](?:.*[\d٠-٩۰-۹०-९০-৯])?", "\0", phrase, count=1)
