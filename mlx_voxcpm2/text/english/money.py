"""Amounts of money in English."""

from __future__ import annotations

from re import Match

from .amounts import AMOUNT, GAP, SIGN, TO, signed
from .numbers import MAGNITUDES, NUMBER, cardinal, is_one
from .rules import Rule, one_of, rule, table

_CURRENCIES = {row[0]: row[1:] for row in table("currencies")}
_CODES = one_of(each for each in _CURRENCIES if each.isalpha())
_SYMBOLS = one_of(each for each in _CURRENCIES if not each.isalpha())
_BEHIND = "[$€£₽₺₴₫฿₪₩]"
_LARGE = rf"(?:{GAP}?(?P<large>(?:hundred|thousand|million|billion|trillion))\b|" + (
    rf"{GAP}?(?P<short>bn|mn|tn|[kKMmBbTt])\b)?"
)
_UNTIL = rf"(?:{TO}(?:{_SYMBOLS})?{GAP}?(?P<to>{NUMBER}))?"


def _money(found: Match[str]) -> str:
    unit = found["unit"]
    one, several, cent, cents = _CURRENCIES[unit]
    sign, amount, to = signed(found["sign"]), found["amount"], found["to"]
    large = found["large"] or MAGNITUDES.get((found["short"] or "").lower())
    until = f"{cardinal(amount)} to " if to else ""
    last = to or amount
    if large:
        return f"{sign}{until}{cardinal(last)} {large} {several}"
    return f"{sign}{until}{_amount(last.replace(',', ''), one, several, cent, cents)}"


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


def _cents(found: Match[str]) -> str:
    one, several = ("penny", "pence") if found["mark"] == "p" else ("cent", "cents")
    return f"{cardinal(found['amount'])} {one if is_one(found['amount']) else several}"


MONEY: list[Rule] = [
    rule(rf"{SIGN}(?<!\w)(?P<unit>{_SYMBOLS}){GAP}?{AMOUNT}{_UNTIL}{_LARGE}", _money),
    rule(rf"{SIGN}\b(?P<unit>{_CODES}){GAP}?{AMOUNT}{_UNTIL}{_LARGE}(?!\w)", _money),
    rule(rf"{SIGN}(?<![\w.]){AMOUNT}{_UNTIL}{_LARGE}{GAP}?(?P<unit>{_CODES})\b", _money),
    rule(rf"{SIGN}(?<![\w.]){AMOUNT}{_UNTIL}{_LARGE}{GAP}?(?P<unit>{_BEHIND})(?!\d)", _money),
    rule(rf"(?<![\w.]){AMOUNT}{GAP}?(?P<mark>¢)", _cents),
    rule(r"(?<![\w.])(?P<amount>\d{1,2})(?P<mark>p)(?!\w|\.\w)", _cents),
]
