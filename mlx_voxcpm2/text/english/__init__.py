"""Written English -> the words that a careful reader says."""

from __future__ import annotations

import re

from .addresses import ADDRESSES, STREETS
from .amounts import RANGES, THOUSANDS
from .dates import DATES
from .mathematics import OPERATORS, SCIENCE, SYMBOLS
from .measures import MEASURES
from .money import MONEY
from .names import ABBREVIATIONS, CODES, LABELS, ROMAN_NUMERALS
from .notations import NOTATIONS
from .phones import PHONES
from .quantities import FRACTIONS, NAMED_VERSIONS, NUMBERS, VERSIONS
from .rules import apply_rules
from .temperatures import TEMPERATURES
from .times import TIMES
from .years import DECADES, YEAR_SPANS, YEARS

# What one rule has put into words, those after it do not see: the longer readings come first.
_ORDER = (
    *ADDRESSES,
    *THOUSANDS,
    *NOTATIONS,
    *PHONES,
    *RANGES,
    *SCIENCE,
    *NAMED_VERSIONS,
    *DATES,
    *TIMES,
    *MONEY,
    *LABELS,
    *STREETS,
    *DECADES,
    *YEAR_SPANS,
    *VERSIONS,
    *FRACTIONS,
    *TEMPERATURES,
    *MEASURES,
    *ROMAN_NUMERALS,
    *YEARS,
    *CODES,
    *OPERATORS,
    *NUMBERS,
    *SYMBOLS,
    *ABBREVIATIONS,
)

# Data, such as base64, is read in pieces: some rules take the square of a word's length.
_DATA = re.compile(r"([!-~]{400,})")
_PIECE = re.compile(r".{1,300}\w*")

# [2] and [3, 5] refer to a list of sources.
_CITATION = re.compile(r"(\[\d+(?:[,–-] ?\d+)*\])")


def spoken_english(text: str) -> str:
    """Text of one paragraph with numbers, symbols and abbreviations in words."""
    words = _DATA.split(text)
    words[::2] = map(_read, words[::2])
    words[1::2] = ["".join(map(_read, _PIECE.findall(data))) for data in words[1::2]]
    return " ".join("".join(words).split())


def _read(text: str) -> str:
    """Words of a text, with white space around them."""
    parts = _CITATION.split(text)
    parts[::2] = [apply_rules(_ORDER, f" {part} ") for part in parts[::2]]
    return "".join(parts)
