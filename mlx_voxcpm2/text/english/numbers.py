"""English readings of numbers: cardinals, ordinals, years, digits, decimals, Roman numerals."""

from __future__ import annotations

import re
from decimal import Decimal

from ..number_words import LONGEST_NUMBER, number_words

# Digits, with commas between thousands, and decimals; not a part of a longer number or word.
NUMBER = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+"
START = r"(?<![\w.,/:$£€-])"

MAGNITUDES = {"k": "thousand", "m": "million", "mn": "million", "b": "billion", "bn": "billion"}
MAGNITUDES |= {"t": "trillion", "tn": "trillion"}
MAGNITUDES |= {each: each for each in ("hundred", "thousand", "million", "billion", "trillion")}

_TENS = "twent thirt fort fift sixt sevent eight ninet".split()
_ROMAN = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}


def cardinal(text: str) -> str:
    """Words of an integer or a decimal: "1,234" or "3.14"; leading zeros are read too."""
    text = text.replace(",", "")
    if text.startswith(("-", "−")):
        return f"minus {cardinal(text[1:])}"
    whole, _, decimals = text.partition(".")
    if not whole:
        return f"point {digits(decimals)}"
    is_code = (len(whole) > 1 and whole[0] == "0") or len(whole) > LONGEST_NUMBER
    words = digits(whole) if is_code else _plain(number_words(int(whole)))
    return f"{words} point {digits(decimals)}" if decimals else words


def ordinal(number: int) -> str:
    return _plain(number_words(number, form="ordinal"))


def digits(text: str, zero: str = "zero") -> str:
    """Digits one by one, other characters left out."""
    found = (int(each) for each in text if each.isdigit())
    return " ".join(_plain(number_words(each)) if each else zero for each in found)


def year(text: str) -> str:
    """Words of a year: "nineteen oh five", "two thousand five", "four seventy six"."""
    if len(text) == 4 and text[1] == "0" and int(text[2:]) < 10:
        return cardinal(text)
    if len(text) == 4:
        first, last = text[:2], text[2:]
        return f"{cardinal(first)} {'hundred' if last == '00' else two_digits(last)}"
    return paired(text) if len(text) == 3 and text[1] != "0" else cardinal(text)


def decade(text: str) -> str:
    """Words of "1990" or "90" in "the 1990s": "nineteen nineties"."""
    century, tens = text[:-2], int(text[-2:])
    if not tens:
        hundreds = year(text) if len(text) == 4 else cardinal(text)
        return f"{hundreds}s"
    ending = "tens" if tens == 10 else f"{_TENS[tens // 10 - 2]}ies"
    return f"{cardinal(century)} {ending}" if century else ending


def paired(text: str) -> str:
    """A number of a room or a house: "four oh four", "one seventeen", "twelve fifty"."""
    if len(text) not in (3, 4) or text[0] == "0" or text.endswith("000"):
        return cardinal(text)
    first, last = text[:-2], text[-2:]
    return f"{cardinal(first)} {'hundred' if last == '00' else two_digits(last)}"


def two_digits(text: str) -> str:
    """Minutes and the like: "oh five", "forty five"."""
    return f"oh {cardinal(text[1])}" if text[0] == "0" else cardinal(text)


def is_one(text: str) -> bool:
    """Whether a singular follows this number."""
    return Decimal(text.replace(",", "")) == 1


def from_roman(text: str) -> int | None:
    """Value of a well-formed Roman numeral, or None."""
    pattern = r"M{0,3}(CM|CD|D?C{0,3})(XC|XL|L?X{0,3})(IX|IV|V?I{0,3})"
    if not text or not re.fullmatch(pattern, text):
        return None
    values = [_ROMAN[each] for each in text]
    following = [*values[1:], 0]
    return sum(-a if a < b else a for a, b in zip(values, following, strict=True))


def plural(words: str) -> str:
    """Words of a number as a noun: "eighteens", "fifties", "sixes"."""
    if words.endswith("y"):
        return f"{words[:-1]}ies"
    return f"{words}es" if words.endswith("x") else f"{words}s"


def _plain(words: str) -> str:
    return words.replace("-", " ").replace(",", "")
