"""Amounts as they are written in English: signs, ranges, and spaces between thousands."""

from __future__ import annotations

import re
from re import Match

from .numbers import NUMBER, cardinal
from .rules import Rule, one_of, rule, table

GAP = "[ \u00a0\u2009\u202f]"
SIGN = r"(?P<sign>(?<![\w)])[-−+±])?"
AMOUNT = rf"(?P<amount>{NUMBER})"
TO = r"\s?[-–—]\s?"

# An amount, or a range of two, each with its sign.
RANGE = rf"{SIGN}(?<![\w.$£€:/]){AMOUNT}(?:{TO}(?P<sign2>[-−])?(?P<to>{NUMBER}))?"


def signed(sign: str | None) -> str:
    return {"-": "minus ", "−": "minus ", "+": "plus ", "±": "plus or minus "}.get(sign or "", "")


def range_words(found: Match[str]) -> str:
    """Words of what `RANGE` matched."""
    until = f" to {signed(found['sign2'])}{cardinal(found['to'])}" if found["to"] else ""
    return f"{signed(found['sign'])}{cardinal(found['amount'])}{until}"


def _joined(found: Match[str]) -> str:
    return re.sub(r"\D", "", found.group())


def _continental(found: Match[str]) -> str:
    return f"{found[1].replace('.', '')}.{found[2]}"


# From one amount to another, both with their units or currencies: "5 kg–10 kg", "$1.5M-$2M".
_UNIT = r"(?P<unit>°[CF]?|%|[A-Za-zµ]{1,3})"
RANGES: list[Rule] = [
    rule(
        rf"(?<=\d)(?P<gap> ?){_UNIT}{TO}(?=[-−]?\d[\d.,]* ?(?P=unit)(?!\w))", r"\g<gap>\g<unit> to "
    ),
    rule(
        rf"(?P<from>[$£€¥]{GAP}?(?:{NUMBER}){GAP}?(?:[kKmMbBtT]n?|million|billion|trillion)){TO}"
        r"(?=[$£€¥]?\d)",
        r"\g<from> to ",
    ),
    rule(r"(?<=\bnoon)[-–—](?=\d)|(?<=\bmidnight)[-–—](?=\d)", " to "),
]

_WHOLE = "people|men|women|copies|votes"
_COUNTED = f"dollars|euros|pounds|yen|{_WHOLE}|years|miles|meters|km|kg|m|tons"

# What has a number by which it is called.
_CALLED = re.compile(
    r"(?i:call|dial|ring|te?xt|phone|rooms?|pages?|numbers?|flights?|code|or|and) "
)

_CURRENCIES = [row[0] for row in table("currencies")]
_COMMA_NAMES = one_of(
    [*_CURRENCIES, *(row[0] for row in table("units")), "%", "‰", "°", "℃", "million", "billion"]
)
# Prices with points between thousands are of these; a dollar's third decimal is that of petrol.
_POINTED = one_of("€ EUR kr DKK SEK NOK zł PLN Kč CZK HUF R$ BRL ₺ TRY ₫ VND IDR ₽ RUB".split())
_PER = r"(?! ?(?:/|per\b|an?\b))"

# Spaces of any kind and apostrophes between thousands; a plain space only where no other reading
# is likely.
THOUSANDS: list[Rule] = [
    rule(r"(?<![\w.,])\d{1,3}(?:[\u00a0\u2007-\u2009\u202f'’]\d{3})+(?!\w)", _joined),
    rule(r"(?<![\w.,+)-])(?<!\d )\d{1,3}(?: \d{3}){2,}(?! ?\d)(?!\w)", _joined),
    rule(r"(?<![\w.,+)-])(?<!\d )[1-9]\d{0,2}(?: 000)+(?! ?\d)(?!\w)", _joined),
    rule(rf"(?<![\w.,+)-])(?<!\d )[1-9]\d{{0,2}} \d{{3}}(?= (?:{_COUNTED})\b)", _joined),
    rule(
        r"\b(?P<before>[A-Za-z][a-z]+ )[1-9]\d{0,2} \d{3}(?= [a-z]{3,}s\b)"
        r"(?! (?:was|has|does|times|minutes|hours)\b)",
        lambda found: (
            found.group() if _CALLED.match(found["before"]) else found["before"] + _joined(found)
        ),
    ),
    # Amounts as they are written on the Continent and in India.
    rule(rf"(?<![\w.,])(\d+),(\d{{1,2}})(?={GAP}?(?:{_COMMA_NAMES})(?!\w)|{GAP}?°[CF])", r"\1.\2"),
    rule(
        rf"(?P<unit>[$£€]{GAP}?)(?P<whole>\d+),(?P<part>\d\d)(?![\d,])",
        r"\g<unit>\g<whole>.\g<part>",
    ),
    rule(rf"(?<![\w.,])[1-9]\d{{0,2}}(?:\.\d{{3}})+(?={GAP}?(?:{_POINTED})(?!\w){_PER})", _joined),
    rule(
        rf"(?<![\w.,])(?P<unit>(?:{_POINTED}){GAP}?)(?P<number>[1-9]\d{{0,2}}(?:\.\d{{3}})+)"
        rf"(?!\w|[.,]\d){_PER}",
        lambda found: found["unit"] + found["number"].replace(".", ""),
    ),
    rule(
        rf"(?<![\w.,])[1-9]\d{{0,2}}(?:\.\d{{3}}){{2,}}(?={GAP}?(?:{_COMMA_NAMES}|{_COUNTED})(?!\w))",
        _joined,
    ),
    # Nobody measures 10.000 km to the meter, or counts parts of people.
    rule(rf"(?<![\w.,])[1-9]\d{{0,2}}(?:\.000)+(?={GAP}?(?:km²?|miles|years|tons)(?!\w))", _joined),
    rule(rf"(?<![\w.,])[1-9]\d{{1,2}}(?:\.000)+(?={GAP}?(?:{_COUNTED})(?!\w))", _joined),
    rule(rf"(?<![\w.,])[1-9]\d{{0,2}}\.\d{{3}}(?={GAP}(?:{_WHOLE})\b)", _joined),
    rule(r"(?<![\w.,])(\d{1,3}(?:\.\d{3})+),(\d\d?)(?![\d,])", _continental),
    rule(r"(?<![\w.,])\d{1,2}(?:,\d\d)+,\d{3}(?![\d,])", _joined),
    rule("[\u00a0\u2000-\u200a\u202f\u205f\u3000]", " "),
]
