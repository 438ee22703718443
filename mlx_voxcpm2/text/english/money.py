"""Amounts of money in English."""

from __future__ import annotations

import re
from re import Match

from .amounts import AMOUNT, GAP, SIGN, TO, signed
from .numbers import MAGNITUDES, NUMBER, cardinal, is_one
from .rules import Rule, one_of, rule, table

_CURRENCIES = {row[0]: row[1:] for row in table("currencies")}
_CODES = one_of(each for each in _CURRENCIES if each.isalpha())
_SYMBOLS = one_of(each for each in _CURRENCIES if not each.isalpha())
_LARGE = rf"(?:(?:{GAP}|-)?(?P<large>(?:hundred|thousand|million|billion|trillion))\b|" + (
    rf"{GAP}?(?P<short>bn|mn|tn|[kKMmBbTt])\b)?"
)
_UNTIL = rf"(?:{TO}(?:{_SYMBOLS})?{GAP}?(?P<to>{NUMBER}))?"


_COMPOUND = re.compile(r"-(?:a-)?[a-z]")
_ARTICLE = re.compile(r"\b([Aa]n?|[Tt]he|[Oo]ur|[Ii]ts|[Hh]is|[Hh]er) $")
_NOUN = re.compile(r" (?!(?:to|and|or|in|of|at|on|for|from|an?|per|is|was|were|more|each)\b)[a-z]")
_BILLS = re.compile(r" (?:bills?|notes?|coins?)\b")
_PRICED = re.compile(
    " (?:deals?|fines?|plans?|fees?|tickets?|investment|loans?|prizes?|bonus|"
    r"question|discount|contract|project|fund|budget|debt|grant|gift|house|company|business)\b"
)


def _shillings(found: Match[str]) -> str:
    """Money of England before 1971: pounds, shillings and pence."""
    pounds, shillings, pence = found["pounds"], found["shillings"], found["pence"]
    words = f"{cardinal(pounds)} pound{'' if pounds == '1' else 's'}"
    words += f" {cardinal(shillings)} shilling{'' if shillings == '1' else 's'}"
    return words + (f" {cardinal(pence)} {'penny' if pence == '1' else 'pence'}" if pence else "")


def _money(found: Match[str]) -> str:
    unit = found["unit"]
    one, several, cent, cents = _CURRENCIES[unit]
    sign, amount, to = signed(found["sign"]), found["amount"], found["to"]
    large = found["large"] or MAGNITUDES.get((found["short"] or "").lower())
    until = f"{cardinal(amount)} to " if to else ""
    last = to or amount
    if _is_adjective(found):
        several = one
    if large:
        return f"{sign}{until}{cardinal(last)} {large} {several}"
    return f"{sign}{until}{_amount(last.replace(',', ''), one, several, cent, cents)}"


def _is_adjective(found: Match[str]) -> bool:
    """Whether the amount says what a noun costs: "a $5 bill", "the $2 billion plan", "$5-a-day"."""
    text, start, end = found.string, found.start(), found.end()
    has_hyphen = found["large"] and text[found.start("large") - 1] == "-"
    if has_hyphen or _COMPOUND.match(text, end) or _BILLS.match(text, end):
        return True
    article = _ARTICLE.search(text[max(0, start - 6) : start])
    nouns = _NOUN if article and article[1].lower() in ("a", "an") else _PRICED
    return article is not None and nouns.match(text, end) is not None


def _amount(amount: str, one: str, several: str, cent: str, cents: str) -> str:
    """An amount with its hundredths in the smaller unit, if it has one."""
    whole, _, part = amount.partition(".")
    if len(part) != 2 or not cent:
        return f"{cardinal(amount)} {one if is_one(amount) else several}"
    name = one if whole == "1" else several
    if not int(part):
        return f"{cardinal(whole or '0')} {name}"
    smaller = f"{cardinal(part.lstrip('0'))} {cent if part == '01' else cents}"
    return f"{cardinal(whole)} {name} and {smaller}" if int(whole or 0) else smaller


def _unit(found: Match[str]) -> str:
    """A currency's abbreviation without its full stop."""
    return f"{found['unit']} " if found["unit"] else str(found["its"])


def _cents(found: Match[str]) -> str:
    one, several = ("penny", "pence") if found["mark"] == "p" else ("cent", "cents")
    return f"{cardinal(found['amount'])} {one if is_one(found['amount']) else several}"


def _without_name(found: Match[str]) -> str:
    """An amount without the name that its symbol says too: "$5 dollars"."""
    one, several, *_ = _CURRENCIES[found["unit"]]
    is_name = found["name"].lower() in (one.split()[-1], several.split()[-1])
    return found["kept"] if is_name else found.group()


def _per(found: Match[str]) -> str:
    return f"{found['money']} per {_SHORT.get(found['per'], found['per'])}"


_NAMES = one_of({word.split()[-1] for row in _CURRENCIES.values() for word in row if word})
_SHORT = {"mo": "month", "mos": "month", "wk": "week", "yr": "year", "hr": "hour", "pp": "person"}
_UNITS = one_of(row[0] for row in table("units") if row[0] not in _SHORT)
_ISO = one_of(each for each in _CURRENCIES if len(each) == 3 and each.isupper())

MONEY: list[Rule] = [
    # "$5 USD" has its currency twice; the code is the one that says which dollar it is.
    rule(rf"(?:{_SYMBOLS}){GAP}?(?P<kept>(?:{NUMBER}){_LARGE})(?= ?(?:{_ISO})\b)", r"\g<kept>"),
    rule(
        rf"(?P<kept>(?P<unit>{_SYMBOLS}){GAP}?(?:{NUMBER}){_LARGE}) (?P<name>[A-Za-z]+)\b",
        _without_name,
    ),
    rule(rf"(?<![\w)-])(?P<unit>{_SYMBOLS}){GAP}?(?P<sign>[-−])(?=\.?\d)", r"\g<sign>\g<unit>"),
    rule(rf"(?<!\w)(?P<mark>¢){GAP}?{AMOUNT}", _cents),
    # Round amounts: 20.- and €5,–
    rule(r"(?<=\d)[.,][-–—](?=[\s.,;:!?)]|$)", ""),
    rule(r"\b(?P<land>US|CA|AU|NZ|HK) \$(?= ?\d)", r"\g<land>$"),
    rule(
        r"\b(?P<unit>Rs|kr|SFr|Fr)\. ?(?=\d)|(?<=\d )(?P<its>kr|SFr|Fr)\.(?=\s[a-z(]|[,;:)])",
        _unit,
    ),
    rule(
        r"£(?P<pounds>\d+),? (?P<shillings>\d{1,2})s\.?(?:,? (?P<pence>\d{1,2})d\.?)?(?!\w)",
        _shillings,
    ),
    rule(rf"{SIGN}(?<!\w)(?P<unit>{_SYMBOLS}){GAP}?{AMOUNT}{_UNTIL}{_LARGE}", _money),
    rule(rf"{SIGN}\b(?P<unit>{_CODES}){GAP}?{AMOUNT}{_UNTIL}{_LARGE}(?!\w)", _money),
    rule(rf"{SIGN}(?<![\w.]){AMOUNT}{_UNTIL}{_LARGE}{GAP}?(?P<unit>{_CODES})\b", _money),
    rule(rf"{SIGN}(?<![\w.]){AMOUNT}{_UNTIL}{_LARGE}{GAP}?(?P<unit>{_SYMBOLS})(?!\d)", _money),
    rule(rf"(?<![\w.]){AMOUNT}{GAP}?(?P<mark>¢)", _cents),
    rule(r"(?<![\w.])(?P<amount>\d{1,2})(?P<mark>p)(?!\w|\.\w)", _cents),
    rule(rf"(?P<money>\b(?:{_NAMES})) ?/ ?(?!(?:{_UNITS})\b)(?P<per>[a-z]*[a-rt-z]|mos)\b", _per),
]
