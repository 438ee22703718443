"""Places between words: where a sentence that is too long may be cut.

ICU knows the words of scripts without spaces (Thai, Lao, Khmer, Burmese, Chinese, Japanese). It
comes with the extra `normalize`; without it they are cut between syllables as far as their letters
tell.
"""

from __future__ import annotations

import importlib.util
import logging
from functools import cache
from itertools import pairwise
from typing import Any

logger = logging.getLogger("mlx_voxcpm2")

_SCRIPTS = {
    "th": r"\p{Thai}",
    "lo": r"\p{Lao}",
    "km": r"\p{Khmer}",
    "my": r"\p{Myanmar}",
    "ja": r"\p{Hiragana}\p{Katakana}ー々",
    "zh": r"\p{Han}\p{Bopomofo}",
}

# Syllables by their letters: what can't begin one stays with what is before it, and a vowel that is
# written first with what is behind it.
_SYLLABLES = (
    r"[เแโใไ]?[ก-ฮ](?:[ัิ-ฺ็-๎]+[ก-ฮ]?(?![ะาำัิ-ฺๅ็-๎])|[็่-๋]*[ะาำๅ]?)(?:[ก-ฮ]์)?[ๆฯ]*"
    r"|[ເ-ໄ]?[ກ-ຮໜໝ][\u0eb0-\u0ebd\u0ec8-\u0ecd]*(?:[ກງຍດນບມວ](?![\u0eb0-\u0ebd\u0ec8-\u0ecd]))?"
    r"|[\u1780-\u17b3](?:\u17d2[\u1780-\u17b3]|[\u17b4-\u17d1\u17d3\u17dd\u200b])*"
    r"(?:[\u1780-\u17a2](?![\u17b6-\u17c5\u17d2]))?"
    r"|[\u1000-\u102a\u103f\u104e](?:\u1039[\u1000-\u1021]|[\u102b-\u1038\u103a-\u103e])*"
    r"(?:[\u1000-\u1021](?=[\u1037\u1038]?\u103a)[\u1037\u1038\u103a]+)*"
    r"|\X"
)
# What ICU takes for the beginning of a word: signs that repeat, small letters and marks, and what
# follows the Burmese letter that begins nouns.
_INSIDE = r".[ๆฯໆៗーゝゞヽヾ々〻ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮ]$|\u1021[\u1000-\u1021]$"
# In Japanese: a character, a Katakana or a Latin letter behind anything else.
_PHRASE = (
    r"[^\p{Han}々](?=\p{Han})|[^\p{Katakana}ー](?=\p{Katakana})|[\p{P}\s]\p{Hiragana}"
    r"|[^\p{L}\p{N}](?=[\p{L}\p{N}])"
)
_LONGEST_PHRASE = 14

_CLOSING = r"[\p{Pe}\p{Pf}\p{Po}\p{M}ーぁぃぅぇぉっゃゅょァィゥェォッャュョ々]"
_OPENING = r"[\p{Ps}\p{Pi}]$"


def has_no_spaces(text: str) -> bool:
    """Whether a text has letters of a script that puts no spaces between words."""
    return not text.isascii() and bool(_pattern(f"[{''.join(_SCRIPTS.values())}]").search(text))


def words_of(text: str) -> list[str]:
    """Words with the punctuation around them; together they are the text."""
    if not text:
        return []
    if importlib.util.find_spec("icu4py") is None:
        _warn()
        return _with_punctuation(_pattern(_SYLLABLES).findall(text))
    from icu4py.breakers import LineBreaker, WordBreaker

    scripts = ((code, _pattern(f"[{letters}]")) for code, letters in _SCRIPTS.items())
    language = next((code for code, letters in scripts if letters.search(text)), "en")
    # A line may break between any two Chinese characters, and a word before a comma.
    breakers = (WordBreaker(text, language), LineBreaker(text, language))
    words, lines = ({end for _, end in breaker.segments()} for breaker in breakers)
    index = _index_of_units(text)
    places = [0, *(index[end] for end in sorted(words & lines))]
    inside = _pattern(_INSIDE)
    places = [each for each in places if not inside.search(text[max(0, each - 2) : each + 1])]
    if language == "ja":
        places = _phrases(text, places)
    return [text[start:end] for start, end in pairwise(places)]


def _phrases(text: str, places: list[int]) -> list[int]:
    """Places where a Japanese phrase begins: ICU parts verbs and particles from their endings.

    A phrase begins with a character or Katakana; in longer runs of Hiragana ICU's places stay.
    """
    begins = _pattern(_PHRASE)
    found = [0]
    for place, following in pairwise(places[1:]):
        is_long = following - found[-1] > _LONGEST_PHRASE
        if is_long or begins.search(text[place - 1 : place + 1]):
            found.append(place)
    return [*found, len(text)]


def _index_of_units(text: str) -> dict[int, int]:
    """Index of each character by its place in UTF-16, in which ICU counts."""
    units, index = 0, {0: 0}
    for number, each in enumerate(text, 1):
        units += 1 + (each > "\uffff")
        index[units] = number
    return index


def characters_of(text: str) -> list[str]:
    """Characters as a reader sees them, with their marks (grapheme clusters)."""
    return list(text) if text.isascii() else _pattern(r"\X").findall(text)


def _with_punctuation(parts: list[str]) -> list[str]:
    words: list[str] = []
    for part in parts:
        if words and (_pattern(_CLOSING).match(part) or _pattern(_OPENING).search(words[-1])):
            words[-1] += part
        else:
            words.append(part)
    return words


@cache
def _pattern(pattern: str) -> Any:
    """Pattern of the library regex, which knows scripts and grapheme clusters."""
    import regex

    return regex.compile(pattern)


@cache
def _warn() -> None:
    logger.warning(
        "long sentences in scripts without spaces may be cut between the syllables of a word; "
        "install 'mlx-voxcpm2[normalize]' for a library that knows their words"
    )
