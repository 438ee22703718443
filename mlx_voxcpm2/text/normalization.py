"""Text normalization: numbers, dates, units and Markdown -> the words that are spoken for them.

By the library wetext, with upstream's cleaning (utils/text_normalize.py). Unlike upstream, marks
for the model are left alone, text that wetext can't read is neither an error nor lost, Japanese is
read as Japanese, and no language as another.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Callable
from functools import cache

logger = logging.getLogger("mlx_voxcpm2")

# An instruction in parentheses before the text.
INSTRUCTION = re.compile(r"^\s*[(（][^)）]*[)）]")

LANGUAGES = {"en": "English", "zh": "Chinese", "ja": "Japanese"}

# {ni3}, {HH AH0 L OW1}, [pause:0.8], [laughing]: meant for the model or for `segments`.
MARK = re.compile(r"(\{[^{}\n]*\}|\[\s*[A-Za-z][^\[\]\n]*\])")
_PARAGRAPH = re.compile(r"\n\s*\n")

_MARKDOWN = [
    (re.compile(r"```.*?```", re.DOTALL), ""),
    (re.compile(r"`([^`\n]*)`"), r"\1"),
    (re.compile(r"!\[[^\]]*\]\([^)]+\)"), ""),
    (re.compile(r"\[([^\]]+)\]\([^)]+\)"), r"\1"),
    (re.compile(r"</?[A-Za-z][^<>]*>"), ""),
    (re.compile(r"^[ \t]*#{1,6}[ \t]+", re.MULTILINE), ""),
    (re.compile(r"^[ \t]*[-*+][ \t]+", re.MULTILINE), ""),
    (re.compile(r"(?<![\w*])(\*{1,3})(?=[^\s*])([^*\n]+?)(?<=\S)\1(?![\w*])"), r"\2"),
    (re.compile(r"(?<!\w)(_{1,3})(?=[^\s_])([^_\n]+?)(?<=\S)\1(?!\w)"), r"\2"),
]
_QUOTES = str.maketrans("“”", '""')
_WIDE = str.maketrans("％＄＋", "%$+")

# wetext puts a backslash before these.
_ESCAPED = re.compile(r'(["\\]+)')
# English fails at digits beside what it does not know, such as "5²".
_DIGIT_EDGE = re.compile(r"(?<=[0-9])(?=[^\x00-\x7f])|(?<=[^\x00-\x7f])(?=[0-9])")

# "2½" is two and a half.
_FRACTION = re.compile(r"(?<=[0-9])(?=[¼-¾⅐-⅞])")

_LEFT_OVER = {
    "en": {"²": " squared", "³": " cubed", "≈": " approximately "}
    | {"<": " less than ", ">": " greater than "},
    "zh": {"²": "平方", "³": "立方", "√": "根号", "≈": "约等于", "<": "小于"}
    | dict.fromkeys("（）【】", " ")
    | {"——": " ", "`": ""},
    "ja": {"²": "の二乗", "³": "の三乗"},
}


def check_normalize(normalize: bool | str) -> None:
    """Raise ValueError for an invalid setting, or if the library is missing."""
    if not isinstance(normalize, bool | str) or normalize == "":
        raise ValueError(f"normalize is {normalize!r}; it must be true, false or a language's code")
    if not normalize:
        return
    from importlib.util import find_spec

    if not all(map(find_spec, ("wetext", "regex"))):
        raise ValueError(
            "normalize needs the library wetext; install 'mlx-voxcpm2[normalize]', or leave it out"
        )


def normalized(text: str, language: str | None = None) -> str:
    """Text in words: "$5" -> "five dollars"; without Markdown, HTML tags and emoji.

    Paragraphs, `{…}`, `[pause:…]` and the like, and an instruction in parentheses at the beginning
    are left alone. language: "en", "zh" or "ja"; None detects it by the script, with Latin letters
    as English. Numbers of other languages are left unchanged, with a warning. Raises ValueError if
    the library is missing.
    """
    check_normalize(True)
    match = INSTRUCTION.match(text)
    instruction = match.group() if match else ""
    text = _cleaned(text[len(instruction) :])
    language = language_of(MARK.sub(" ", text)) if language is None else _code(language)
    if language not in LANGUAGES:
        if any(each.isdigit() for each in MARK.sub("", text)):
            known = ", ".join(LANGUAGES.values())
            logger.warning(
                "normalize knows %s; numbers of other languages are left unchanged", known
            )
        return instruction + text
    # One paragraph at a time, since the cost grows with the length.
    return instruction + "\n\n".join(_paragraph(part, language) for part in _PARAGRAPH.split(text))


def _code(language: str) -> str:
    """Language of a code: "en" of "en-GB"."""
    return re.split("[-_]", language.strip().lower())[0]


def language_of(text: str) -> str | None:
    """Language by the script of the letters: "en", "zh", "ja", or None for other scripts."""
    letters = [each for each in text[:5000] if each.isalpha()]
    scripts = [unicodedata.name(each, "?").split()[0] for each in letters]
    han = scripts.count("CJK")
    kana = scripts.count("HIRAGANA") + scripts.count("KATAKANA")
    others = len(scripts) - han - kana - scripts.count("LATIN") - scripts.count("FULLWIDTH")
    if others * 2 > len(scripts):
        return None
    if kana * 4 > han:  # a Chinese text may have a の
        return "ja"
    return "zh" if han else "en"


def _cleaned(text: str) -> str:
    import regex

    for pattern, replacement in _MARKDOWN:
        text = pattern.sub(replacement, text)
    emoji = r"(?:\p{Emoji_Presentation}|\p{Emoji}\uFE0F)[\p{Emoji_Modifier}\uFE0F\u200D]*"
    text = regex.sub(emoji, "", text)
    return text.translate(_QUOTES)


def _paragraph(text: str, language: str) -> str:
    parts = MARK.split(" ".join(text.split()))
    parts[::2] = [_between_marks(part, language) for part in parts[::2]]
    return re.sub(" +", " ", "".join(parts))


def _between_marks(text: str, language: str) -> str:
    text = _narrow(text)
    if language == "en":
        text = _FRACTION.sub(" and ", text)
    elif language == "zh":
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
    """Text in words by wetext; if that fails, part by part between digits and letters."""
    words = text.strip()
    if not words:
        return text
    read = _tried(words, language)
    if read is None:
        parts = _DIGIT_EDGE.split(words)
        read = "".join(_spaced(part, language) for part in parts)
    return _with_ends(text, read)


def _spaced(text: str, language: str) -> str:
    read = _tried(text.strip(), language)
    return text if read is None else _with_ends(text, read)


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
