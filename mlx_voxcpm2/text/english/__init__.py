"""Written English -> the words that a careful reader says."""

from __future__ import annotations

import re

from .addresses import ADDRESSES, STREETS
from .amounts import THOUSANDS
from .dates import DATES
from .mathematics import OPERATORS, SCIENCE, SYMBOLS
from .measures import MEASURES
from .money import MONEY
from .names import ABBREVIATIONS, CODES, ROMAN_NUMERALS
from .phones import PHONES
from .quantities import FRACTIONS, NUMBERS, VERSIONS
from .rules import apply_rules
from .times import TIMES
from .years import DECADES, YEAR_SPANS, YEARS

# What one rule has put into words, those after it do not see: the longer readings come first.
_ORDER = (
    *ADDRESSES,
    *THOUSANDS,
    *PHONES,
    *SCIENCE,
    *DATES,
    *TIMES,
    *MONEY,
    *STREETS,
    *DECADES,
    *YEAR_SPANS,
    *VERSIONS,
    *FRACTIONS,
    *MEASURES,
    *ROMAN_NUMERALS,
    *YEARS,
    *CODES,
    *OPERATORS,
    *NUMBERS,
    *SYMBOLS,
    *ABBREVIATIONS,
)

# [2] and [3, 5] refer to a list of sources.
_CITATION = re.compile(r"(\[\d+(?:[,–-] ?\d+)*\])")


def spoken_english(text: str) -> str:
    """Text of one paragraph with numbers, symbols and abbreviations in words."""
    parts = _CITATION.split(text)
    parts[::2] = [apply_rules(_ORDER, f" {part} ") for part in parts[::2]]
    return " ".join("".join(parts).split())
