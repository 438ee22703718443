"""Web, mail and street addresses, as they are read out in English."""

from __future__ import annotations

import re
from re import Match

from .numbers import cardinal, digits, paired
from .rules import Rule, one_of, rule, table

_SIGNS = {".": "dot", "/": "slash", "@": "at", "-": "dash", "_": "underscore", "?": "question mark"}
_SIGNS |= {"=": "equals", "&": "and", "#": "hash", ":": "colon", "%": "percent", "+": "plus"}
_SIGNS |= {"~": "tilde"}

# A bare name is an address only with an ending that no sentence has by mistake.
_DOMAINS = "com org net edu gov io ai co uk de fr eu info dev app us ca au jp cn ru ch at it es nl"

_FILES = "txt|pdf|py|js|ts|html?|css|json|ya?ml|toml|csv|tsv|xml|md|docx?|xlsx?|pptx?|png|jpe?g|gif"
_FILES += "|svg|mp[34]|wav|flac|ogg|zip|tar|gz|exe|sh|cpp|rs|epub|log"

_STREETS = {row[1]: row[2] for row in table("abbreviations") if row[0] == "street"}
_STATES = {row[1]: row[2] for row in table("abbreviations") if row[0] == "state"}
_SAINTS = one_of(row[2] for row in table("abbreviations") if row[0] == "saint")
_STREET_WORDS = [*_STREETS.values(), "Way", "Alley", "Close", "Row", "Route", "Trail"]


def _read_out(address: str) -> str:
    """Words of an address: letters in a row are a word, digits are read alone."""
    parts = re.findall(r"[^\W\d_]+|\d+|[^\w\s]|_", address)
    words = (_SIGNS.get(each) or (_number(each) if each.isdigit() else each) for each in parts)
    return " ".join(words)


def _number(text: str) -> str:
    return cardinal(text) if len(text) < 3 else paired(text) if len(text) == 4 else digits(text)


def _web(found: Match[str]) -> str:
    rest = found.group("rest")
    address = rest.rstrip(".,;:!?")
    return _read_out(address.rstrip("/")) + rest[len(address) :]


def _house(found: Match[str]) -> str:
    letter, street = found.group("letter") or "", found.group("street")
    number = f"{paired(found.group('number'))} {letter}".strip()
    kind = found.group("kind")
    street = _DIRECTION.sub(lambda each: f"{_DIRECTIONS[each['to']]} ", street)
    end = "." if found.group("dot") and _ends_sentence(found) else ""
    behind = f" {_DIRECTIONS[found['behind']]}" if found["behind"] else ""
    return f"{number} {street}{_STREETS.get(kind, kind)}{end}{behind}"


def _ends_sentence(found: Match[str]) -> bool:
    """Whether a sentence ends after an abbreviation with a full stop."""
    return bool(re.match(r"\s*$|\s+[\"'(]?[A-Z]", found.string[found.end() :]))


def _street(found: Match[str]) -> str:
    end = "." if found.group("dot") and _ends_sentence(found) else ""
    to = found.group("to")
    direction = f"{_DIRECTIONS[to]} " if to else ""
    behind = f" {_DIRECTIONS[found['behind']]}" if found["behind"] else ""
    return f"{direction}{found.group('name')} {_STREETS[found.group('kind')]}{end}{behind}"


ADDRESSES: list[Rule] = [
    rule(r"\b(?:https?|ftp)://(?P<rest>[^\s<>\"]+)", _web),
    rule(r"(?<!\w)(?P<rest>[\w.+-]+@[\w-]+(?:\.[\w-]+)+)", _web),
    rule(r"(?<![\w@.])(?P<rest>www\.[^\s<>\"]+)", _web),
    rule(
        rf"(?<![\w@.])(?P<rest>(?:[A-Za-z][\w-]*\.)+(?:{one_of(_DOMAINS.split())})\b(?!\.\w)"
        r"(?:/[^\s<>\"]*)?)",
        _web,
    ),
    # Names of files, and paths to them.
    rule(rf"(?<![\w@./\\-])(?P<rest>[\w-]+\.(?:{_FILES}))\b(?![./]\w)", _web),
    rule(r"(?<![\w/.<])(?P<rest>(?:~|\.{1,2})?(?:/[\w.+-]*\w){2,}/?)", _web),
    rule(r"(?<![\w.])(?P<rest>\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?)(?![\w.]*\d)", _web),
]

_DIRECTIONS = {"N": "North", "S": "South", "E": "East", "W": "West"}
_DIRECTIONS |= {"NE": "Northeast", "NW": "Northwest", "SE": "Southeast", "SW": "Southwest"}
_TO = rf"(?P<to>{one_of(_DIRECTIONS)})\.?"
_BEHIND = r"(?:,? (?P<behind>NE|NW|SE|SW)\b)?"
_DIRECTION = re.compile(rf"^{_TO} ")

# Words in capitals that are a state's letters only after a comma.
_WORDS = "(?:ID|OK|IN|ME|OR|HI|OH|PA|MA|LA)"

_NUMBER = r"\b(?P<number>\d{1,5})(?P<letter>[A-Za-z])? "
_NAME = r"(?:[A-Z][\w'.]*|\d+(?:st|nd|rd|th)) "

STREETS: list[Rule] = [
    rule(
        rf"(?<![$£€\w.,-]){_NUMBER}(?P<street>(?:{_NAME}){{1,3}}?)"
        rf"(?P<kind>{one_of([*_STREETS, *_STREET_WORDS])})\b(?P<dot>\.?){_BEHIND}",
        _house,
    ),
    rule(
        rf"(?:\b{_TO} )?(?P<name>\b[A-Z][a-z]+(?:['’]s)?|\b\d+(?:st|nd|rd|th)) "
        rf"(?P<kind>{one_of(set(_STREETS) - {'Dr'})})\b(?P<dot>\.?){_BEHIND}(?! (?:{_SAINTS})\b)",
        _street,
    ),
    rule(
        rf"(?:(?<=, )|(?<=[a-z] )(?!{_WORDS}\b))(?P<state>{one_of(_STATES)}),? "
        r"(?P<zip>\d{5})(?:-(?P<more>\d{4}))?\b",
        lambda found: (
            f"{_STATES[found['state']]} {digits(found['zip'])}"
            + (f" {digits(found['more'])}" if found["more"] else "")
        ),
    ),
    rule(
        rf"(?<=[a-z]), (?P<state>{one_of(_STATES)})(?=[.,;]|\s*$)",
        lambda found: f", {_STATES[found['state']]}",
    ),
]
