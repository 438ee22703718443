"""Number words of many languages, from the spell-out rules of Unicode's CLDR through ICU."""

from __future__ import annotations

from decimal import Decimal
from functools import cache, lru_cache
from typing import Any, Literal

NumberForm = Literal["cardinal", "ordinal", "year", "masculine", "feminine", "neuter"]

# Names of the rules; where a language has none of that name, its plain numbers are taken.
_RULES: dict[NumberForm, str] = {
    "cardinal": "numbering",
    "ordinal": "ordinal",
    "year": "numbering-year",
    "masculine": "cardinal-masculine",
    "feminine": "cardinal-feminine",
    "neuter": "cardinal-neuter",
}
_ENGLISH_RULES: dict[NumberForm, str] = {
    "cardinal": "cardinal-verbose",
    "ordinal": "ordinal-verbose",
}

# Beyond this ICU writes digits.
LONGEST_NUMBER = 15

# Languages that CLDR has number words for. Not Arabic and Korean, whose numbers depend on what is
# counted.
LANGUAGES = frozenset(
    "af az be bg bs ca cs cy da de el eo es et fa fi fil fo fr ga gu he hi hr hu hy "
    "id is it ka kk km ky lo lt lv mk ms mt my nb nl nn no pl pt ro ru sk sl sq sr sv "
    "sw ta th tr uk vi yue".split()
)


def number_words(number: int | Decimal, language: str = "en", form: NumberForm = "cardinal") -> str:
    """Words of a number: "one hundred and five"; parts of a word are joined, hyphens are kept.

    form: "year" is 1984 as "neunzehnhundertvierundachtzig", where the language has that reading. A
    number of more than `LONGEST_NUMBER` digits is read digit by digit.
    """
    if abs(number) >= 10**LONGEST_NUMBER:
        return " ".join(number_words(int(each), language) for each in str(number) if each.isdigit())
    return _words(number, language, form)


@lru_cache(maxsize=10_000)
def _words(number: int | Decimal, language: str, form: NumberForm) -> str:
    words = str(_spell_out(language, form).format({"n": number}))
    return words.replace("\u00ad", "").replace("\u200b", "")  # where a word may be hyphenated


@cache
def _spell_out(language: str, form: NumberForm) -> Any:
    from icu4py.messageformat import MessageFormat

    rule = (_ENGLISH_RULES if language == "en" else _RULES).get(form, "numbering")
    return MessageFormat(f"{{n,spellout,%spellout-{rule}}}", language)
