"""Sentences of a text, by the library sentencex and the abbreviations of each language."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.resources import files

# Languages by script, where the text doesn't say its language. Those in Latin letters are not told
# apart: the abbreviations of all of them count.
_SCRIPTS = {"CYRILLIC": "ru", "GREEK": "el", "ARMENIAN": "hy", "ETHIOPIC": "am", "ARABIC": "ar"}
_SCRIPTS |= {"DEVANAGARI": "hi", "BENGALI": "bn", "GUJARATI": "gu", "TAMIL": "ta", "TELUGU": "te"}
_SCRIPTS |= {"KANNADA": "kn", "MALAYALAM": "ml", "GURMUKHI": "pa"}

_SAME = {"nb": "no", "nn": "no", "be": "ru", "mk": "bg", "sr": "hr", "bs": "hr", "gl": "pt"}
_SAME |= {"ms": "id", "af": "nl", "lb": "de"}

# Letters of an abbreviation on either side of what looks like a sentence's end.
_LONGEST = 12

# Letters before a sentence's end that tell whether it is one: more than any abbreviation has.
_TAIL = 48

# Words of a text by which its language is told, and how many of them must be common ones.
_FIRST_WORDS, _ENOUGH = 400, 3

_LETTER = r"[^\W\d_]"
# What begins a sentence, and stands in none of the names that an abbreviation is part of.
_BEGINNERS = re.compile(
    r"\W*(?:He|She|It|They|We|You|I|His|Her|Its|Their|Our|My|The|This|That|These|Those|There|Then|"
    r"But|And|So|When|While|After|Before|If|As|At|In|On|To|For|From|With|No|Yes|What|Who|Why|How|"
    r"Er|Sie|Es|Wir|Ihr|Ich|Du|Der|Die|Das|Ein|Eine|Dann|Da|Doch|Aber|Und|Auch|Danach|Nun|Nach|Seit|"
    r"Wer|Was|Wie|Wo|Warum|Wenn|Als|Ob|Man|Kein|Keine|Nur|So)\b(?!\.)"
)
_STREET = re.compile(r"(?:[a-z]|\d(?:st|nd|rd|th)) St\.$")
# A German ordinal: "der 1. FC Köln", but not "Ich habe 3. Du hast 4."
_ORDINAL = re.compile(
    r"\b(?i:de[rmns]|die|das|am|im|zum|zur|vom|beim|ein(?:e[rmns]?)?|(?:sein|ihr|mein|unser|jed|dies)"
    r"e[rmns]?|seit|nach|und|bis) \d{1,3}\.$"
)
# Languages where Roman numerals have no full stop of their own: "no séc. XX. Depois".
_PLAIN_ROMAN = frozenset("pt es fr it en ca ro nl".split())
_AFTER_ROMAN = re.compile(r"\b[IVX]{2,}\.\s+(?=[A-ZÀ-Ý][a-zà-ÿ]*\s)")
_ROMAN = re.compile(r"\b[IVX]+\.$")
# What follows the p.m. of a sentence that goes on.
_AFTER_TIME = r"(?:[A-Z]{2,4}\b|Eastern|Pacific|Central|Mountain|Greenwich|\w+day\b)"


def sentences(text: str, language: str | None = None) -> list[str]:
    """Sentences with the white space after them; together they are the text.

    language: a code such as "de"; None tells it by the script.
    """
    import sentencex

    code = re.split("[-_]", language.strip().lower())[0] if language else _language(text)
    known = code if language or code != "en" else None
    found: list[list[str]] = []
    """Parts of each sentence."""
    tail = ""
    for part in _parts(sentencex.segment(code, text), code):  # pyright: ignore
        if found and _goes_on(tail, part, known):
            found[-1].append(part)
        else:
            found.append([part])
            tail = ""
        tail = _tail(tail + part)
    return ["".join(parts) for parts in found]


def _parts(found: Iterable[str], language: str) -> Iterator[str]:
    """Sentences as sentencex found them, those cut that end with a Roman numeral."""
    for part in found:
        start = 0
        for end in _AFTER_ROMAN.finditer(part) if language in _PLAIN_ROMAN else ():
            yield part[start : end.end()]
            start = end.end()
        yield part[start:]


def _tail(text: str) -> str:
    """The end of a text: so many letters that none of a sentence is read again and again."""
    bare = text.rstrip()
    return bare[-_TAIL:] + text[len(bare) :]


def _language(text: str) -> str:
    """Language code by the script of the first thousand letters, or by common words.

    "en" also stands for Latin letters of a language that can't be told.
    """
    letters = [each for each in text[:5000] if each.isalpha()][:1000]
    scripts = Counter(unicodedata.name(each, "?").split()[0] for each in letters)
    common = scripts.most_common(1)
    if not common or common[0][0] != "LATIN":
        return _SCRIPTS.get(common[0][0], "en") if common else "en"
    words = Counter(re.findall(r"[^\W\d_]+", text[:5000].lower())[:_FIRST_WORDS])
    counts = {code: sum(words[each] for each in known) for code, known in _common_words().items()}
    (best, count), (_, second) = Counter(counts).most_common(2)
    return best if count >= _ENOUGH and count > 1.2 * second else "en"


@cache
def _common_words() -> dict[str, frozenset[str]]:
    return {code: frozenset(words.split()) for code, words in _table("common_words")}


def _table(name: str) -> list[list[str]]:
    """Rows of a table beside this file, without those that begin with `#`."""
    content = files("mlx_voxcpm2.text").joinpath(f"{name}.tsv").read_text(encoding="utf-8")
    return [row.split("\t") for row in content.splitlines() if not row.startswith("#")]


def _goes_on(before: str, after: str, language: str | None) -> bool:
    """Whether a sentence goes on after a full stop that seemed to end it.

    before: its last letters, with the white space behind them.
    """
    bare = before.rstrip()
    if bare.endswith(("」", "』")) and after.startswith(("と", "って")):  # "…," he said
        return True
    if not bare.endswith((".", ".)", ".,")):
        return False
    if before == bare and re.match(rf"[-‐]|{_LETTER}|\d", after) and bare[-1] == ".":
        return bare.isascii() or not bare.endswith("。")
    begins = _BEGINNERS.match(after) is not None
    if after[:1].islower() and _ROMAN.search(bare):
        return True
    if bare[-2:-1].isdigit() and _is_ordinal(bare, after, language) and not begins:
        return True
    if begins and _STREET.search(bare):
        return False
    inner, number, end, several = _patterns(language)
    if inner.search(bare) or _is_inside(several, before, after):
        return True
    first = after.lstrip("\"'“‘«(„ ")[:1]
    if number.search(bare) and (first.isdigit() or re.match(r"\W*[IVXLC]+\b", after)):
        return True
    if not end.search(bare):
        return False
    is_time = re.search(r"\b[ap]\.\s?m\.$", bare, re.IGNORECASE) and re.match(_AFTER_TIME, after)
    return first.islower() or first.isdigit() or bool(is_time)


def _is_ordinal(before: str, after: str, language: str | None) -> bool:
    """Whether a number before a full stop goes on: "1." of a list, "20. század", "der 1. FC"."""
    if re.fullmatch(r"\W*\d{1,3}\.", before) or after[:1].islower():
        return True
    return language == "de" and _ORDINAL.search(before) is not None


def _is_inside(several: re.Pattern[str], before: str, after: str) -> bool:
    """Whether an abbreviation of several parts, such as `p. ex.`, lies across the end."""
    tail = before[-_LONGEST:]
    found = several.finditer(tail + after[:_LONGEST])
    return any(each.start() < len(tail) < each.end() for each in found)


@cache
def _patterns(language: str | None) -> tuple[re.Pattern[str], ...]:
    """Patterns of abbreviations: inner, before numbers, at the end too; those of several parts."""
    known = ("*", _SAME.get(language, language)) if language else None
    kinds: dict[str, set[str]] = {"inner": set(), "number": set(), "end": set()}
    for code, kind, words in _table("abbreviations"):
        if known and code in known:
            kinds[kind].update(words.split())
        elif not known:
            kinds[kind].update(each for each in words.split() if code in ("*", "en") or _safe(each))
    several = {each for each in set().union(*kinds.values()) if re.search(r"[._].", each)}
    return (*(_pattern(each, r"[)]?$") for each in kinds.values()), _pattern(several))


def _safe(abbreviation: str) -> bool:
    """Whether an abbreviation of another language is not likely to end an English sentence."""
    bare = abbreviation.rstrip(".")
    return "." in bare or not bare.isascii() or (bare[:1].isupper() and len(bare) > 1)


def _pattern(abbreviations: set[str], end: str = "") -> re.Pattern[str]:
    """Pattern of any of them, in its case or with a capital, spaces allowed after inner stops."""
    if not abbreviations:
        return re.compile("(?!)")
    forms = {form for each in abbreviations for form in (each, each[:1].upper() + each[1:])}
    escaped = (
        re.escape(each).replace("_", r"\s").replace(r"\.", r"\.\s?").removesuffix(r"\s?")
        for each in sorted(forms, key=len, reverse=True)
    )
    return re.compile(rf"(?<![\w.])(?:{'|'.join(escaped)}){end}")
