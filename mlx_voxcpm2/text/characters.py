"""Characters that can't be spoken, and those that are written in an unusual way."""

from __future__ import annotations

import re
import unicodedata

# Scripts in which a zero-width joiner or non-joiner between letters is part of the spelling.
_JOINED: tuple[str, ...] = (
    "ARABIC",
    "DEVANAGARI",
    "BENGALI",
    "GURMUKHI",
    "GUJARATI",
    "ORIYA",
    "TAMIL",
    "TELUGU",
)
_JOINED += ("KANNADA", "MALAYALAM", "SINHALA", "MONGOLIAN", "SYRIAC", "KHMER", "MYANMAR")
_JOINERS = "\u200c\u200d"

# Letters by category that show nothing.
_BLANK = "\u115f\u1160\u3164\uffa0\u2800\u034f\u17b4\u17b5"

# Replacements for control characters that separate text.
_SEPARATORS = {"\u2029": "\n\n", "\f": "\n\n", "\x85": "\n\n", "\u2028": "\n", "\v": "\n"}
_SEPARATORS |= dict.fromkeys("\x1c\x1d\x1e", "\n\n")
_SEPARATOR = re.compile("|".join(_SEPARATORS))

# Letters in one piece, mathematical and enclosed ones, and those of full or half width.
_UNUSUAL = re.compile(
    "[\ufb00-\ufb06\ufb13-\ufb17\ufb50-\ufdfb\ufe70-\ufefc\U0001d400-\U0001d7ff\U0001f130-\U0001f149"
    "\u2460-\u24ea\u2160-\u217f\u2080-\u2089\u3300-\u33df\u2102\u210a-\u2113\u2115\u2119-\u211d"
    "\u2124\u2128\u212c-\u2134\u2139\u213c-\u213f\u2145-\u2149"
    "\uff10-\uff19\uff21-\uff3a\uff41-\uff5a\uff66-\uff9f\u0132\u0133\u01c4-\u01cc\u01f1-\u01f3"
    "\u017f\u1d43-\u1d61]"
)
# Numbers in circles and brackets, each a number of its own.
_NUMBERED = re.compile("[\u2460-\u249b\u24ea]")
# Numbers in white on black, in two circles and above twenty.
_CIRCLED = re.compile("[\u24eb-\u24ff\u2776-\u2793\u3251-\u325f\u32b1-\u32bf]")
# Heavy signs of arithmetic, behind a number or between variables; elsewhere they are ornaments.
_HEAVY = {"\u2715": "×", "\u2716": "×", "\u2795": "+", "\u2796": "−", "\u2797": "÷"}
_HEAVY_SIGN = re.compile(
    rf"(?<=[\d)])([{''.join(_HEAVY)}])\ufe0f?|(?:(?<=[\d)] )|(?<=\b[A-Za-z] )|(?<=\b[A-Za-z]))"
    rf"([{''.join(_HEAVY)}])\ufe0f?(?= ?(?:[\d(]|[A-Za-z]\b))"
)
# White letters on black, which Unicode gives no other form.
_INVERTED = re.compile("[\U0001f150-\U0001f169\U0001f170-\U0001f189]")
_HYPHENS = str.maketrans("\u2010\u2011", "--")
# Lines through letters, and marks piled on one.
_DECORATION = re.compile("[\u0334-\u0338]|[\u0300-\u036f]{3,}")
# Colours of a terminal, and a hyphen that is seen only where a line ends.
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]{0,500}(?:\x07|\x1b\\))")
_CUT_SOFTLY = re.compile(r"(?<=[^\W\d_])\u00ad[ \t]*\n[ \t]*(?=[^\W\d_])")
_AND = re.compile(" [\u2018\u2019]n[\u2018\u2019] ")
_APOSTROPHE = re.compile(r"(?<=[^\W\d_])[\u2019\u02bc\u2018\u201b\uff07\u00b4`\u02b9](?=[^\W\d_])")
_FIRST_APOSTROPHE = re.compile(r"(?<!\w)[\u2019\u02bc](?=\w)|(?<=s)[\u2019\u02bc](?=\s|$)")
_KEYCAP = re.compile("([0-9])\ufe0f?\u20e3|[#*]\ufe0f?\u20e3")

# What begins a compound that keeps its hyphen.
_PREFIXES = "self well ex non all half mid high low ill old new anti post pre cross full long short"
_NUMBERS = "twenty thirty forty fifty sixty seventy eighty ninety"
# What stands behind a hanging hyphen, "first- and second-class", and words that end the same.
_CONJUNCTIONS = frozenset("and und oder bis y o e ou".split())
_NO_CONJUNCTION = frozenset("thousand island errand brigand cannabis kürbis tenor".split())
# Conjunctions that many words end in, col-or, tan-to, tick-et, wom-en, there-of: these need a
# compound behind them, or one of these words before.
_ENDINGS = frozenset("or to et en of".split())
_COUNTS = "one two three four five six seven eight nine ten eleven twelve hundred thousand"
_BEFORE_ENDING = {
    **dict.fromkeys(("or", "to"), f"{_PREFIXES} {_NUMBERS} {_COUNTS}".split()),
    **dict.fromkeys(("en", "of"), "voor na binnen buiten boven heen zee in uit aan af".split()),
}
_COMPOUND_FOLLOWS = re.compile(r"\s+[^\W\d_]+[-\u2010][^\W\d_]")
_CUT = re.compile(r"(?<![^\W\d_])([^\W\d_]+)[-\u2010\u00ad][ \t]*\n[ \t]*([^\W\d_]+)")

_WORD = re.compile(r"\w+")
_PAIR = re.compile(r"(?<!\w)(?=(\w+-\w+))")


def with_line_ends(text: str) -> str:
    """Text with `\\n` between lines and an empty line where a character ends a paragraph.

    A form feed, U+2029, NEL and a carriage return alone end a paragraph; U+2028 ends a line.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n\n")
    text = _CUT_SOFTLY.sub("", text) if "\u00ad" in text else text
    return _SEPARATOR.sub(lambda found: _SEPARATORS[found.group()], text)


def speakable(text: str) -> str:
    """Text without what can't be spoken: control, format, private and unassigned characters.

    Line ends and tabs stay; a zero-width joiner stays where a script spells with it.
    """
    if text.isascii() and text.isprintable():
        return text
    text = _ESCAPE.sub("", text) if "\x1b" in text else text
    return "".join(each for i, each in enumerate(text) if _is_speakable(text, i))


def _is_speakable(text: str, index: int) -> bool:
    each = text[index]
    if each in _JOINERS:
        return _is_spelling(text, index)
    if each in _BLANK or each in "\ufffc\ufffd":
        return False
    category = unicodedata.category(each)
    # Half of a surrogate pair is an error in the program that made the text: it is refused later.
    return each.isspace() or category[0] != "C" or category == "Cs"


def _is_spelling(text: str, index: int) -> bool:
    """Whether a joiner stands behind a letter or mark of a script that spells with joiners."""
    before = text[index - 1] if index else ""
    return bool(before) and unicodedata.name(before, "").startswith(_JOINED)


def says_something(text: str) -> bool:
    """Whether a text has a letter or a digit that is seen."""
    return any(each.isalnum() and each not in _BLANK for each in text)


def cleaned(text: str) -> str:
    """Speakable text in usual characters: composed, with straight apostrophes, ligatures apart.

    Keycap emoji and numbers in circles become their digits, heavy signs of arithmetic plain ones.
    """
    text = _KEYCAP.sub(
        lambda found: f"{found[1]} " if found[1] else "", text.replace("\U0001f51f", "10 ")
    )
    text = _DECORATION.sub("", speakable(text))
    text = unicodedata.normalize("NFC", text).translate(_HYPHENS)
    text = _NUMBERED.sub(r" \g<0> ", text)
    text = _CIRCLED.sub(lambda found: f" {unicodedata.numeric(found.group()):.0f} ", text)
    text = _HEAVY_SIGN.sub(lambda found: _HEAVY[found[1] or found[2]], text)
    text = _INVERTED.sub(lambda found: chr(65 + (ord(found.group()) - 0x1F150) % 32), text)
    text = _AND.sub(" 'n' ", text)
    text = _UNUSUAL.sub(lambda found: unicodedata.normalize("NFKC", found.group()), text)
    return _FIRST_APOSTROPHE.sub("'", _APOSTROPHE.sub("'", text))


def with_whole_words(text: str) -> str:
    """Text where words that a hyphen at a line's end has cut are joined.

    The hyphen stays where the text has the word with it elsewhere, after a prefix such as "self",
    in a number, and before a capital; before a conjunction it hangs, "first- and second-class".
    """
    if "\n" not in text or not _CUT.search(text):
        return text
    words = _words_in(text)
    return _CUT.sub(lambda found: _whole_word(found, words), text)


def _words_in(text: str) -> set[str]:
    """Words of a text, and pairs with a hyphen between them, in lower case."""
    return {each.lower() for pattern in (_WORD, _PAIR) for each in pattern.findall(text)}


def _whole_word(found: re.Match[str], words: set[str]) -> str:
    """The word that was cut. words: see `_words_in`."""
    first, last = found.groups()
    if last[0].isupper() and not first.isupper():
        return f"{first}-{last}"
    joined, hyphened = first + last, f"{first}-{last}"
    is_joined = joined.lower() in words
    if not is_joined and _is_conjunction(found):
        # "black-and-white" is one word.
        return hyphened if found.string.startswith("-", found.end()) else f"{first}- {last}"
    is_compound = first.lower() in f"{_PREFIXES} {_NUMBERS}".split() or (
        hyphened.lower() in words and not is_joined
    )
    return hyphened if is_compound and not is_joined else joined


def _is_conjunction(found: re.Match[str]) -> bool:
    """Whether what follows a hyphen at a line's end is a conjunction, not the end of a word."""
    first, last = found[1].lower(), found[2].lower()
    if found.string[found.end(1)] == "\u00ad" or first + last in _NO_CONJUNCTION:
        return False
    if last not in _ENDINGS:
        return last in _CONJUNCTIONS
    is_inside = last in ("of", "to") and found.string.startswith("-", found.end())
    is_after = first in _BEFORE_ENDING.get(last, ())
    return is_inside or is_after or bool(_COMPOUND_FOLLOWS.match(found.string, found.end()))
