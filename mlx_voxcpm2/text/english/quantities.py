"""Fractions, ordinals, versions, scores, ranges and plain numbers in English."""

from __future__ import annotations

import re
import unicodedata
from re import Match

from .numbers import NUMBER, cardinal, ordinal
from .rules import Rule, one_of, rule, table

_UNITS = {row[0]: row[1:] for row in table("units")} | {"in": ["inch", "inches"]}
_UNITS |= {'"': ["inch", "inches"], "″": ["inch", "inches"], "′": ["foot", "feet"]}
_COMMON = (12, 16, 32, 64, 100, 1000)
_DENOMINATORS = {2: ("half", "halves"), 4: ("quarter", "quarters")}


def _fraction_words(over: int, under: int) -> str:
    one, several = _DENOMINATORS.get(under) or (ordinal(under), f"{ordinal(under)}s")
    return f"{cardinal(str(over))} {one if over == 1 else several}"


def _mixed(whole: str | None, over: int, under: int, unit: str | None) -> str:
    """Words of a fraction, with what it counts: "two and a half miles", "half a mile"."""
    words = _fraction_words(over, under)
    one, several = _UNITS.get(unit or "", ("", ""))
    if whole and int(whole):
        if over == 1 and under <= 4:
            words = words.replace("one ", "a ")
        return f"{cardinal(whole)} and {words} {several}".rstrip()
    if not one:
        return words
    article = "an" if one[0] in "aeiou" or one == "hour" else "a"
    return f"half {article} {one}" if words == "one half" else f"{words} of {article} {one}"


def _fraction(found: Match[str]) -> str:
    over, under = int(found["over"]), int(found["under"])
    whole, unit = found["whole"], found["unit"]
    if 0 < over < under and (over == 1 or under <= 10 or under in _COMMON):
        return _mixed(whole, over, under, unit)
    between = " " if over <= under or over + under == 100 else " over "
    words = f"{cardinal(found['over'])}{between}{cardinal(found['under'])}"
    return " ".join(filter(None, [whole and cardinal(whole), words, unit and _UNITS[unit][1]]))


def _vulgar(found: Match[str]) -> str:
    over, _, under = unicodedata.normalize("NFKC", found["sign"]).partition("⁄")
    return _mixed(found["whole"], int(over), int(under), found["unit"])


_IN = r"in(?=[,;)]|\.?\s*$|\.?\s(?:tall|wide|long|deep|high|thick|by|x)\b)"
_UNIT = rf"(?:[ -]?(?P<unit>{one_of(set(_UNITS) - {'in'})}|{_IN})(?!\w)(?:\.(?=\s[a-z]))?)?"

FRACTIONS: list[Rule] = [
    rule(
        r"(?<![\w./])24/7(?P<all>/365)?(?![\w/])",
        lambda found: f"twenty four seven{' three sixty five' if found['all'] else ''}",
    ),
    rule(r"(?:(?<=\d/\d)|(?<=\d/\d\d))\s?[-–—]\s?(?=\d{1,2}/\d)", " to "),
    rule(r"(?<![\w./-])9/11(?![\w/])", "nine eleven"),
    rule(rf"(?<![\w.])(?:(?P<whole>\d+)[ -]?)?(?P<sign>[¼-¾⅐-⅞]){_UNIT}", _vulgar),
    rule(
        r"(?<![\w./$£€,-])(?:(?P<whole>\d+)[ -])?(?P<over>\d+)[/⁄](?P<under>\d+)(?:ths?|rds?|nds?)?"
        rf"(?![\d/]|[.,]\d){_UNIT}(?!\w)",
        _fraction,
    ),
]

_SOFTWARE = one_of(
    "Python iOS iPadOS macOS Android Windows Linux Ubuntu Debian Java Node Ruby PHP Rust Go Swift "
    "Firefox Chrome Safari Bluetooth HTTP USB HDMI Version version release Release Section "
    "section Chapter chapter Figure figure Table table Article Build build Fedora Docker "
    "Kubernetes Django MySQL PostgreSQL SQLite Redis Perl Kotlin Xcode PyTorch TensorFlow NumPy "
    "CUDA OpenSSL Firmware firmware Kernel kernel Clause clause Paragraph paragraph Rule rule "
    "Appendix".split()
)
# What comes before a release.
_AFTER = r"-?(?:alpha|beta|rc|dev|preview)[.-]?\d*\b"
_SCORES = one_of(
    "won win wins lost lose loses beat beats score scored result defeated defeat draw drew tied "
    "led lead leads leading trailed victory ahead down final".split()
)


def _version(found: Match[str]) -> str:
    words = " point ".join(cardinal(each) for each in found["number"].split("."))
    after = re.sub(r"^-|\brc", lambda each: "R C" if each[0] == "rc" else "", found["after"] or "")
    return f"{found['before']}{words} {after}".rstrip()


def _parts(found: Match[str]) -> str:
    return " " + " point ".join(map(cardinal, found.group().split(".")))


def _ordinal(found: Match[str]) -> str:
    return ordinal(int(found["number"].replace(",", "")))


def _pair(found: Match[str]) -> str:
    return f"{found['before']}{cardinal(found['a'])} to {cardinal(found['b'])}"


_BEFORE = rf"(?P<before>\b(?:{_SOFTWARE})s?(?:(?:\.| dot )js)? (?:version )?)v?"

# Versions and sections of three numbers and more, before dates; not those with a whole year.
NAMED_VERSIONS: list[Rule] = [
    rule(
        rf"{_BEFORE}(?!\d\d?\.\d\d?\.[12]\d{{3}}(?!\w)|[12]\d{{3}}\.)"
        rf"(?P<number>\d+(?:\.\d+){{2,}})(?P<after>{_AFTER}|[a-z]\d*\b)?",
        _version,
    ),
]

VERSIONS: list[Rule] = [
    rule(
        rf"{_BEFORE}(?P<number>\d+(?:\.\d+)+)"
        rf"(?P<after>{_AFTER}|[a-z]\d*\b)?",
        _version,
    ),
    rule(
        r"(?P<before>)\b[vV](?:er)?(?:\.? ?)(?P<number>\d+(?:\.\d+)*)"
        rf"(?P<after>{_AFTER}|[a-z]\d*\b)?(?!\w)",
        lambda found: f"version {_version(found)}",
    ),
    rule(
        r"\b(?P<before>[A-Z]{1,2})\.(?P<number>\d+(?:\.\d+)+)(?P<after>)(?!\w)",
        lambda found: f"{found['before']} point {_version(found).removeprefix(found['before'])}",
    ),
    rule(r"(?P<before>)(?<![\w.])(?P<number>\d+(?:\.\d+){2,})(?P<after>)(?!\w)", _version),
]

NUMBERS: list[Rule] = [
    rule(r"\b(?P<number>\d{1,3}(?:,\d{3})+|\d+)(?i:st|nd|rd|th)\b", _ordinal),
    rule(
        rf"(?P<before>\b(?i:{_SCORES})(?: \w+){{0,4}}? )(?P<a>\d+)\s?[-–—:]\s?(?P<b>\d+)(?![\w-])",
        _pair,
    ),
    rule(rf"(?P<before>)(?<![\w.,:-])(?P<a>{NUMBER}):(?P<b>{NUMBER})(?![\w:]|,\d{{3}}\b)", _pair),
    rule(
        rf"(?P<before>)(?<![\w.,-])(?P<a>{NUMBER})\s?[-–—]\s?(?P<b>{NUMBER})(?![\w-]|,?\d)", _pair
    ),
    rule(
        rf"(?<![\w)])[-−](?P<number>{NUMBER})(?!\w)",
        lambda found: f"minus {cardinal(found['number'])}",
    ),
    rule(r"(?<=\d),(?=\d)(?!\d{3}(?!\d))", ", "),
    rule(rf"(?<![\w.])(?:{NUMBER})(?!\w)(?!\.\d)", lambda found: cardinal(found.group())),
    rule(r"(?<=[A-Za-z])\d+(?:\.\d+)+(?!\w)", _parts),
    rule(r"(?<=[A-Za-z])\d+(?=[^\W\d])", lambda found: f" {cardinal(found.group())} "),
    rule(r"(?<=[A-Za-z])\d+", lambda found: f" {cardinal(found.group())}"),
    rule(r"\d+(?:\.\d+)?(?=\w)", lambda found: f"{cardinal(found.group())} "),
    rule(r"\d+(?:\.\d+)?", lambda found: cardinal(found.group())),
]
