"""Text normalization: numbers, dates and units -> the words that are spoken for them.

English is read by the rules of `text/english`, Chinese and Japanese by the library wetext with
upstream's cleaning (utils/text_normalize.py), numbers of other languages by Unicode's spell-out
rules. Unlike upstream, marks for the model are left alone, and no text is lost.
"""

from __future__ import annotations

import importlib.util
import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from functools import cache

from ..errors import option, shown
from .characters import cleaned, speakable, with_line_ends
from .english import spoken_english
from .markup import paragraphs, without_markup
from .number_words import LANGUAGES as NUMBER_LANGUAGES
from .other_languages import with_number_words

logger = logging.getLogger("mlx_voxcpm2")

# An instruction in parentheses before the text: "(calm)", not "(555) 123-4567".
INSTRUCTION = re.compile(r"^\s*[(（](?=[^)）]*[^\W\d_])[^)）]*[)）]")

LANGUAGES = {"en": "English", "zh": "Chinese", "ja": "Japanese"}

# Languages of the model whose numbers depend on what they count: these stay as they are.
_UNREAD_NUMBERS = frozenset(("ar", "ko"))
_SAME_LANGUAGE = {"tl": "fil"}

# {ni3}, {HH AH0 L OW1}, [pause:0.8], [laughing]: meant for the model or for `segments`.
MARK = re.compile(r"(\{[^{}\n]*\}|\[\s*[A-Za-z][^\[\]\n]*\])")

# Boxes, shapes, stars and ornaments; not the signs of music and of the sexes.
_ORNAMENTS = re.compile(
    "[\u2042\u2500-\u263f\u2641\u2643-\u266c\u2670-\u27bf\u2b00-\u2bff]+(?!\ufe0f)"
)

# Letters that stand for a quantity or a unit, in texts of any language: α = 0.05, 5 Ω.
_GREEK = "\u0370-\u03ff\u1f00-\u1fff"
_SYMBOLS = re.compile(f"(?<![{_GREEK}])[{_GREEK}](?![{_GREEK}])|[ªµº\u2126]")

_QUOTES = str.maketrans("“”„‟", '""""')
_WIDE = str.maketrans("％＄＋", "%$+")

# Words of single signs. In a text that is more than one sign, some of them may be markup.
SIGNS = {
    "∞": "infinity",
    "&": "and",
    "%": "percent",
    "+": "plus",
    "=": "equals",
    "@": "at",
    "√": "square root",
    "±": "plus or minus",
    "×": "times",
    "÷": "divided by",
    "≈": "approximately",
    "≠": "not equal",
    "≤": "less than or equal",
    "≥": "greater than or equal",
    "°": "degrees",
    "€": "euros",
    "$": "dollars",
    "£": "pounds",
}

# wetext puts a backslash before these.
_ESCAPED = re.compile(r'(["\\]+)')

_LEFT_OVER = {
    "zh": {"²": "平方", "³": "立方", "√": "根号", "≈": "约等于", "<": "小于"}
    | dict.fromkeys("（）【】", " ")
    | {"——": " ", "`": ""},
    "ja": {"²": "の二乗", "³": "の三乗"},
}


def is_normalize_installed() -> bool:
    """Whether the libraries of the extra `normalize` are there."""
    return all(map(importlib.util.find_spec, ("icu4py", "wetext", "regex")))


def check_normalize(normalize: bool | str, language: str | None = None) -> None:
    """Raise ValueError for an invalid setting, or if the library is missing.

    language: the one of the text, if it is named elsewhere.
    """
    if not isinstance(normalize, bool | str) or normalize == "":
        raise ValueError(
            f"{option('normalize')} is {normalize!r}; it must be true, false or a language's code"
        )
    if normalize and not is_normalize_installed():
        raise ValueError(
            f"{option('normalize')} needs the libraries wetext and icu4py; install "
            "'mlx-voxcpm2[normalize]', or leave it out"
        )
    named = normalize if isinstance(normalize, str) else language
    if normalize and named is not None and _code(named) not in _known_languages():
        raise ValueError(
            f"{option('normalize')} does not know the language {shown(named)}; give a code such as "
            "en, zh, ja or de, or leave it out"
        )


def _known_languages() -> frozenset[str]:
    return NUMBER_LANGUAGES | _UNREAD_NUMBERS | {*LANGUAGES}


def normalized(text: str, language: str | None = None) -> str:
    """Text in words: "$5" -> "five dollars"; without Markdown, HTML tags and emoji.

    Paragraphs stay, divided by empty lines, and `{…}`, `[pause:…]` and the like, and an instruction
    in parentheses at the beginning, are left alone. language: a code such as "en"; None detects
    English, Chinese and Japanese by the script of most letters, with Latin ones as English. Numbers
    of Arabic, of Korean and of other scripts whose language is not named are left unchanged, with a
    warning. Raises ValueError for a language that is not known, or if the libraries are missing.
    """
    check_normalize(True, language)
    match = INSTRUCTION.match(text)
    instruction = match.group() if match else ""
    if language in (None, "en") and (name := SIGNS.get(text.strip())) is not None:
        return name
    parts = [_cleaned(each) for each in paragraphs(_usual(text[len(instruction) :]))]
    text = "\n\n".join(filter(None, parts))
    language = language_of(MARK.sub(" ", text)) if language is None else _code(language)
    if language not in LANGUAGES and language not in NUMBER_LANGUAGES:
        if any(each.isdigit() for each in MARK.sub("", text)):
            known = ", ".join(LANGUAGES.values())
            logger.warning(
                "normalize knows %s and, if you name them, the numbers of %d more; numbers of "
                "other languages are left unchanged",
                known,
                len(NUMBER_LANGUAGES),
            )
        return instruction + text
    # One paragraph at a time, since the cost grows with the length.
    return instruction + "\n\n".join(_paragraph(part, language) for part in text.split("\n\n"))


def _code(language: str) -> str:
    """Language of a code: "en" of "en-GB"."""
    code = re.split("[-_]", language.strip().lower())[0]
    return _SAME_LANGUAGE.get(code, code)


def language_of(text: str) -> str | None:
    """Language by the script of most letters: "en", "zh", "ja", or None for other scripts."""
    letters = [each for each in _SYMBOLS.sub("", text[:5000]) if each.isalpha()]
    scripts = Counter(re.split("[ -]", unicodedata.name(each, "?"))[0] for each in letters)
    han, kana = scripts["CJK"], scripts["HIRAGANA"] + scripts["KATAKANA"] + scripts["HALFWIDTH"]
    latin = scripts["LATIN"] + scripts["FULLWIDTH"]
    others = scripts.total() - han - kana - latin + scripts["HANGUL"]
    wide = 2 * (han + kana)  # one character stands for about two Latin letters
    if others > latin + wide:
        return None
    if not wide or wide < latin:
        return "en"
    return "ja" if kana * 4 > han else "zh"  # a Chinese text may have a の


def _usual(text: str) -> str:
    """Text in usual characters, with its lines."""
    return "\n".join(map(cleaned, with_line_ends(text).split("\n")))


def _cleaned(text: str) -> str:
    """One paragraph without markup and emoji."""
    import regex

    text = _ORNAMENTS.sub(" ", speakable(without_markup(text)))
    emoji = (
        r"(?:\p{Emoji_Presentation}|(?![0-9#*©®™])\p{Emoji}\uFE0F|\p{Regional_Indicator})"
        r"[\p{Emoji_Modifier}\uFE0F\u200D]*"
    )
    text = regex.sub(emoji, " ", text).replace("\ufe0f", "")
    return " ".join(text.translate(_QUOTES).split())


def _paragraph(text: str, language: str) -> str:
    parts = MARK.split(" ".join(text.split()))
    parts[::2] = [_between_marks(part, language) for part in parts[::2]]
    return re.sub(" +", " ", "".join(parts)).strip()


def _between_marks(text: str, language: str) -> str:
    text = _narrow(text)
    if not text.strip():
        return text
    if language == "en":
        return _with_ends(text, spoken_english(text))
    if language not in LANGUAGES:
        return with_number_words(text, language)
    if language == "zh":
        text = text.replace("=", "等于")
        # Else the hyphen of "x-2" is read as the sign of a negative number.
        text = re.sub(r"(?<=[a-zA-Z0-9])-(?=\d)", " - ", text)
    parts = _ESCAPED.split(text)
    parts[::2] = [_read(part, language) for part in parts[::2]]
    text = "".join(parts)
    if language == "zh":
        text = _without_wide_spaces(text)
    for symbol, words in _LEFT_OVER[language].items():
        text = text.replace(symbol, words)
    return text


def _narrow(text: str) -> str:
    """Text with the digits of all scripts as 0 to 9, and full-width signs of numbers as ASCII."""
    numbers = ((each, unicodedata.decimal(each, None)) for each in text)
    digits = (each if number is None else str(number) for each, number in numbers)
    return "".join(digits).translate(_WIDE)


def _without_wide_spaces(text: str) -> str:
    """Text with spaces only between ASCII characters, and at the ends, next to marks."""
    return re.sub(r"(?<=[^\x00-\x7f]) +(?=\S)|(?<=\S) +(?=[^\x00-\x7f])", "", text)


def _read(text: str, language: str) -> str:
    """Text in words by wetext; unchanged if that fails."""
    words = text.strip()
    return _with_ends(text, _tried(words, language) or words) if words else text


def _with_ends(text: str, words: str) -> str:
    """Words with the white space that surrounded the text."""
    words = words.strip()
    start, end = len(text) - len(text.lstrip()), len(text.rstrip())
    return text[:start] + words + text[end:]


def _tried(text: str, language: str) -> str | None:
    """Text in words, or None if wetext fails."""
    try:
        return _reader(language)(text).strip() or None
    except AssertionError:  # its parser found no path through the grammar
        return None


@cache
def _reader(language: str) -> Callable[[str], str]:
    from wetext import Normalizer

    reader = Normalizer(lang=language, operator="tn", remove_erhua=language == "zh")
    return lambda text: str(reader.normalize(text))
