"""Notations with readings of their own: time signatures, ratings, sizes, standards, verses."""

from __future__ import annotations

import re
from math import gcd
from re import Match

from .numbers import NUMBER, cardinal, ordinal, paired, plural, year
from .rules import Rule, one_of, rule

_MUSIC = "time|meter|metre|rhythm|beat|bars?|waltz|march|signature|groove|feel"
_RATINGS = "rating|stars?|score|grade|GPA|mark|points?|review"
_RATED = "rated|rating|rate|score|scored|scores|graded?|review|give it|gave it|gives it"

_BOOKS = one_of(
    "Genesis Exodus Leviticus Deuteronomy Joshua Judges Ruth Samuel Kings Chronicles Ezra Nehemiah "
    "Esther Job Psalm Psalms Proverbs Ecclesiastes Isaiah Jeremiah Ezekiel Daniel Hosea Amos Jonah "
    "Micah Habakkuk Zechariah Malachi Matthew Mark Luke John Acts Romans Corinthians Galatians "
    "Ephesians Philippians Colossians Thessalonians Timothy Titus Hebrews James Peter Jude "
    "Revelation Quran Surah Sura Gita".split()
)

_KEYS = {"Ctrl": "Control", "Cmd": "Command", "Opt": "Option", "Win": "Windows", "Esc": "Escape"}
_KEYS |= {"Del": "Delete", "Fn": "function", "PgUp": "page up", "PgDn": "page down"}
_KEY = one_of([*_KEYS, *_KEYS.values(), "Alt", "Shift", "Meta", "Super", "AltGr"])

_EVENTS = {"b": "born", "d": "died", "r": "reigned"}
_WARS = {"I": "one", "II": "two"}


def _signature(found: Match[str]) -> str:
    return f"{cardinal(found['over'])} {cardinal(found['under'])}"


def _unreduced(found: Match[str]) -> str:
    """2/4 and 6/8 are bars of music, since as fractions they would be reduced."""
    over, under = int(found["over"]), int(found["under"])
    return _signature(found) if gcd(over, under) > 1 or over > under else found.group()


def _rating(found: Match[str]) -> str:
    before = found.groupdict().get("before") or ""
    return f"{before}{cardinal(found['over'])} out of {cardinal(found['under'])}"


def _verse(found: Match[str]) -> str:
    book = f"{ordinal(int(found['number'])).capitalize()} " if found["number"] else ""
    last = f" to {cardinal(found['last'])}" if found["last"] else ""
    return f"{book}{found['book']} {cardinal(found['a'])} {cardinal(found['b'])}{last}"


def _standard(found: Match[str]) -> str:
    letters = " ".join(each.upper() for each in found["letters"] if each.isalpha())
    number = found["part"]
    words = paired(number) if len(number) > 2 else cardinal(number)
    return f"eight oh two point {words} {letters}".rstrip()


def _norm(found: Match[str]) -> str:
    """The number of a standard, with the year of its edition."""
    number, edition = found["number"], found["year"]
    words = paired(number) if len(number) == 4 and number[1:3] != "00" else cardinal(number)
    return f"{found['name']}{words}" + (f" {year(edition)}" if edition else "")


def _size(found: Match[str]) -> str:
    number = found["number"]
    words = paired(number) if len(number) == 4 and number.isdigit() else cardinal(number)
    return f"{words} by "


def _hexadecimal(digit: str) -> str:
    return cardinal(digit) if digit.isdigit() else digit.upper()


def _group(found: Match[str]) -> str:
    return f"{found['before']}{plural(cardinal(found['number']))}"


def _at_rate(found: Match[str]) -> str:
    """A picture before its rate: "four K at"."""
    number = found["number"]
    words = paired(number) if len(number) == 4 else cardinal(number)
    return f"{words} {found['letter'].replace('k', 'K')} at " if found["letter"] else f"{words} at "


def _keys(found: Match[str]) -> str:
    """Keys that are pressed together: "Control plus F four"."""
    names = (_KEYS.get(each, each) for each in found["keys"].split("+"))
    return " plus ".join(cardinal(each) if each.isdecimal() else each for each in names)


def _part_of_year(found: Match[str]) -> str:
    """A quarter, a half or a financial year: "Q one twenty twenty four"."""
    century = "20" if int(found["year"]) < 70 else "19"
    name, number = found["part"][0], found["part"][1]
    words = cardinal(number) if number.isdecimal() else number
    return f"{name} {words} {year(century + found['year'])}"


def _round(found: Match[str]) -> str:
    zeros = found["number"].count("0")
    return {1: "tens", 2: "hundreds", 3: "thousands"}.get(zeros) or found.group()


_ELEMENTS = (
    "A[lgrsu]|B[aeir]|C[adlorsu]|Fe|G[ae]|H[eg]|Kr|Li|M[gno]|N[aei]|P[bdt]|R[abn]|S[bceinr]|T[il]|"
    "Xe|Z[nr]|[BCFHIKNOPSUVWY]"
)
_CHARGES = {"⁺": "plus", "⁻": "minus", "+": "plus"}


def _formula(found: Match[str]) -> str:
    """A chemical formula, element by element: "C H three C O O H"."""
    if re.fullmatch(r"[A-Z]{4,}\d+", found.group()):  # SOCKS5
        return found.group()
    return " ".join(
        cardinal(each) if each.isdigit() else each
        for each in re.findall(rf"{_ELEMENTS}|\d+", found.group())
    )


def _charge(found: Match[str]) -> str:
    number = found["number"] and f" {cardinal(str('⁰¹²³⁴'.index(found['number'])))}"
    return f"{number} {_CHARGES[found['sign']]}"


_OF_COMPANY = (
    "Company|Co|Corp|Corporation|Post-it|Scotch|Command|tape|mask|respirator|adhesive|film"
)
_OF_COMPANY += (
    "|stock|brand|product|plant|glue|filter|sandpaper|is|was|has|had|says?|said|announced"
)
_OF_COMPANY += "|makes?|made|will|sells?|sold|reported"

_PLACE = r"(?<![\w.,/$£€-])"

# Types of programs: "List<String>" is a list of strings, the innermost first.
_TYPE = r"\w+(?:(?:::|\.)\w+)*[?&*]?(?:\[\])?(?: of [\w, ]+)?"
_GENERIC = rule(
    rf"(?P<name>[A-Za-z]\w*)<(?P<types>{_TYPE}(?:, ?{_TYPE}){{0,5}})>(?!\w)",
    r"\g<name> of \g<types>",
)

NOTATIONS: list[Rule] = [
    *[_GENERIC] * 3,
    rule(
        rf"(?<![\w.-])(?=[A-Za-z()]*\d)(?:(?:{_ELEMENTS})\d{{0,3}}|"
        rf"\((?:(?:{_ELEMENTS})\d{{0,3}}){{1,8}}\)\d{{0,3}}){{2,30}}(?![A-Za-z\d_-])",
        _formula,
    ),
    rule(r"(?<=[A-Za-z\d)])(?P<number>[²³⁴]?)(?P<sign>[⁺⁻])(?![⁰¹²³⁴-⁹])", _charge),
    rule(r"(?<![\w./])(\d{2,}(?:\.\d+)?)/(?=\d{2,}(?:\.\d+)? ?[kMG]?Hz\b)", r"\1 or "),
    rule(rf"{_PLACE}(?P<over>\d\d?)/(?P<under>2|4|8|16)(?=[- ](?:{_MUSIC})\b)", _signature),
    rule(rf"{_PLACE}(?P<over>2|4|6|9|12)/(?P<under>4|8)(?![\w/\"″-]|[.,]\d| \w)", _unreduced),
    rule(
        rf"(?P<before>\b(?i:{_RATED})(?: them| a| of|:)? )(?P<over>\d+(?:\.\d+)?)"
        r"/(?P<under>5|10|20|100)(?![\w/]|[.,]\d)",
        _rating,
    ),
    rule(rf"{_PLACE}(?P<over>\d+(?:\.\d+)?)/(?P<under>5|10|100)(?=[- ](?:{_RATINGS})\b)", _rating),
    rule(rf"{_PLACE}(?P<over>\d+\.\d+)/(?P<under>\d+(?:\.\d+)?)(?![\w/])", _rating),
    rule(rf"{_PLACE}(?P<over>5|10|100)/(?P<under>(?P=over))(?![\w/]|[.,]\d)", _rating),
    rule(r"\b802\.(?P<part>\d{1,2})(?P<letters>[a-z]{0,3}(?:/[a-z]{1,2})*)\b", _standard),
    rule(
        rf"(?P<number>\b[1-3] )?\b(?P<book>{_BOOKS}) (?P<a>\d+):(?P<b>[1-9]\d*)"
        r"(?:[-–](?P<last>\d+))?(?![\w:]| ?[AaPp]\.?[Mm]\b)",
        _verse,
    ),
    rule(
        r"(?P<name>\b(?:ISO|IEC|DIN|EN|ANSI|BS|RFC) )(?P<number>\d{2,5})(?::(?P<year>\d{4}))?"
        r"(?!\w|[.,:]\d)",
        _norm,
    ),
    rule(
        r"(?<![\w.,])(?P<number>480|720|1080|1440|2160)(?=[pi]\b)",
        lambda found: f"{paired(found['number'])} ",
    ),
    # 3x5, 1920x1080 and 4x100 m, but neither 3x5=15 nor 0x1F nor 3x10^8.
    rule(
        rf"(?<![A-Za-wyz\d.,])(?!0[xX])(?P<number>{NUMBER})[xX×](?=\d)"
        r"(?!10[\^⁰¹²³⁴-⁹⁻])(?![\d.,x×]* ?=)",
        _size,
    ),
    rule(rf"(?<![\w.,])(?P<number>{NUMBER}) ?[x×] ?(?=[\d.]+ ?(?:m|cm|mm|km|ft|in)\b(?!²))", _size),
    rule(
        r"(?P<before>\b(?:(?:[Uu]nder|[Oo]ver|U)-|the (?:under|over) ))(?P<number>\d\d)s\b", _group
    ),
    rule(r"(?<![\w.,])(?P<number>7\d7)s\b", lambda found: plural(paired(found["number"]))),
    rule(
        r"\b0[xX](?P<digits>[0-9A-Fa-f]{1,16})\b",
        lambda found: f"zero x {' '.join(map(_hexadecimal, found['digits']))}",
    ),
    rule(r"(?<![\w.,])(?P<number>10{1,3})s(?= of\b)", _round),
    rule(r"(?<![\w.])50[-–]50\b", "fifty fifty"),
    rule(
        r"\bV(?P<number>4|6|8|10|12|16)\b(?!\.\d)", lambda found: f"V {cardinal(found['number'])}"
    ),
    rule(r"\b(?P<letter>[A-Z])\.(?=\d{3}\b)", r"\g<letter> "),
    rule(r"\b(?:c|[Cc]a)\. ?(?=\d{3,4}\b)", "circa "),
    rule(
        r"(?<=[(,;–] )(?P<event>[bd])\. ?(?P<year>1\d{3}|20\d\d)\b|(?<=\()(?P<first>[bdr])\. ?"
        r"(?P<its>1\d{3}|20\d\d)\b",
        lambda found: (
            f"{_EVENTS[found['event'] or found['first']]} {year(found['year'] or found['its'])}"
        ),
    ),
    rule(r"(?<=\dst|\dnd|\drd|\dth) c\.(?=[\s,;)])", " century"),
    rule(r"(?<=[\w%)]) v\. (?=\d+ ?%|[A-Z])", " versus "),
    rule(r"№ ?(?=\d)", "number "),
    rule(
        r"(?<![\w.,+−-])(?P<number>\d+) pp\.(?P<end>\s*$|(?=\s+[A-Z]))?",
        lambda found: f"{found['number']} pages{'' if found['end'] is None else '.'}",
    ),
    # The company, not three million.
    rule(rf"(?<![\w.,$£€¥-])3M(?='s\b|’s\b| (?:{_OF_COMPANY})\b)", "three M"),
    rule(r"(?<=\b[Ww]ork for )3M\b|(?<=\b[Ww]ork at )3M\b", "three M"),
    rule(r"\bWW ?(?P<number>II?)\b", lambda found: f"World War {_WARS[found['number']]}"),
    rule(r"\b(?P<letter>[A-G])[#♯](?!\w)", r"\g<letter> sharp"),
    rule(r"\b(?P<letter>[A-G])[#♯](?=\d\b)", r"\g<letter> sharp "),
    # 1080p@60fps, 4K@60Hz
    rule(r"(?<= [pi]) ?@ ?(?=\d+ ?(?:[kMG]?Hz|fps|p)\b)", " at "),
    rule(
        r"(?<![\w.,])(?P<number>\d+)(?P<letter>[kKpi])? ?@ ?(?=\d+ ?(?:[kMG]?Hz|fps|p)\b)", _at_rate
    ),
    rule(rf"(?<![\w+])(?P<keys>(?:{_KEY})(?:\+(?:{_KEY}|\w{{1,3}}|[A-Z][a-z]+))+)(?![\w+])", _keys),
    rule(r"\b(?P<part>Q[1-4]|H[12]|FY) ?['’](?P<year>\d\d)\b", _part_of_year),
    rule(r"\b(?P<letter>[A-G])♭", r"\g<letter> flat"),
    rule(
        r"(?<=[A-Za-z])\+\+(?P<more>-?(?=\w))?",
        lambda found: f" plus plus{' ' if found['more'] is not None else ''}",
    ),
]
