"""Markdown and HTML -> paragraphs of plain text."""

from __future__ import annotations

import html
import re

from .characters import says_something, with_line_ends, with_whole_words
from .tags import Ends, without_block_tags, without_inline_tags

_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_AUTOLINK = re.compile(r"<((?:https?://|mailto:)[^<>\s]+|[\w.+-]+@[\w.-]+\.\w+)>")

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,}(?=[ \t]*\w))[^`\n]*$", re.MULTILINE)
# What a link points to: an address, a place on the page, or the name of a file or a host. Other
# words in its place are spoken: `[Anna]: Hello.`, `[laughing](softly)`.
_NAMED = r"[^\s()<>]*(?:\w\.[A-Za-z]\w|[^\W\d_]/)"
_POINTS = rf"(?=\w+://|mailto:|[/#]|\.{{1,2}}/|{_NAMED}|<[^<>\n]*[./#:][^<>\n]*>)"
_DEFINITION = re.compile(
    rf"^ {{0,3}}\[(?!\^)([^\]\n]+)\]:\s*{_POINTS}(?:<[^<>\n]*>|\S*[^\s.,;:!?…\"'”’])"
    r"(?:\s+(?:\"[^\"]*\"|'[^']*'|\([^()]*\)))?\s*$"
)
_REFERENCE = re.compile(r"(?<!\\)(!?)\[([^\[\]]{1,500})\]\[([^\[\]]{0,500})\]")
_FOOTNOTE = re.compile(r"^ {0,3}\[\^[^\]\n]+\]:\s*")
_LINE_MARKS = re.compile(
    r"^[ \t]*(?:(?:>[ \t]?)+|#{1,6}(?:[ \t]+|$)|[-*+•‣◦▪:][ \t]+(?:\[[ xX]\][ \t]+)?)+"
)
# The settings at the beginning of a file, and the marks around a block with a class.
_FRONT_MATTER = re.compile(
    r"\A\s*---[ \t]*\n(?:[A-Za-z_][\w-]*:.*\n|[ \t]+.*\n|- .*\n)+---[ \t]*$", re.M
)
_DIVISION = re.compile(r"^ {0,3}:{3,}[ \t]*(?:\{[^{}]*\}|[\w-]*)[ \t]*:*$")
_HEADING = re.compile(r"^[ \t]*(?:>[ \t]?)*#{1,6}[ \t]+")
_HEADING_END = re.compile(r"(?<![ \t])[ \t]+#+[ \t]*$")
_TABLE_RULE = re.compile(
    r"^[ \t]*(?:\|[ \t]*)?:?-{2,}:?[ \t]*(?:\|[ \t]*:?-{2,}:?[ \t]*)*(?:\|[ \t]*)?$"
)

_TARGET = rf"\((?:\s*{_POINTS}(?:<[^<>\n]*>|(?:[^()\s]|\([^()]*\))+)(?:\s+[\"'“‘=][^()]*)?)?\s*\)"

# What is marked has a length, so that a mark that is never closed is not followed to the end.
_INLINE = [
    (re.compile(r"```.*?```", re.DOTALL), ""),
    (re.compile(r"(?<!`)(`{2,3})(?=[^`])([^\n]{1,500}?)(?<=[^`])\1(?!`)"), r"\2"),
    (re.compile(r"(`+)([^`\n]+)\1"), r"\2"),
    (re.compile(r"\{[#.][A-Za-z][^{}\n]{0,200}\}"), ""),
    (
        re.compile(
            r"(?<![\w$])(\${1,2})(?=[^\s\d$])(?=\S{1,3}\$|[^$\n]*[\\^_={+])([^$\n]{1,500}?)(?<=[^\s$])\1(?![\w$])"
        ),
        r"\2",
    ),
    (re.compile(r"(?<=\w)~(\w{1,20})~(?!~)"), r"\1"),
    (re.compile(r"(?<=\w)\^(\w{1,20})\^"), r"^\1"),
    (re.compile(rf"!\[[^\]]{{0,500}}\]{_TARGET}"), ""),
    (re.compile(rf"\[([^\]]{{1,500}})\]{_TARGET}"), r"\1"),
    (re.compile(r"\[\^[^\]\s]{1,100}\]"), ""),
    (re.compile(r"(?<![\w*\\])(\*{1,3})(?=[^\s*])([^*\n]+?)(?<=[^\s\\])\1(?![\w*])"), r"\2"),
    (re.compile(r"(?<![\d*\\])\*\*(?=[^\s*])([^*\n]+?)(?<=[^\s*\\])\*\*(?![\d*])"), r"\1"),
    (re.compile(r"(?<![\w\\])(_{1,3})(?=[^\s_])([^_\n]+?)(?<=\S)\1(?!\w)"), r"\2"),
    (re.compile(r"(?<!\w)(~~|==|\|\|)(?=\S)(.{1,1000}?)(?<=\S)\1"), r"\2"),
    (re.compile(r"(?<!\w)(?:\*{2,3}|_{2,3}|~~)(?=\w)|(?<=[^\s\d])(?:\*{2,3}|_{2,3}|~~)(?!\w)"), ""),
    (re.compile(r"`{2,}"), ""),
    (re.compile(r"\\[*_~`](?=\w)|(?<=[^\W\d])\\[*_~`]"), ""),
    (re.compile(r"\\([\\`*_{}\[\]()#+\-.!|~>])"), r"\1"),
    (re.compile(r"(?<=\w)\\(?=\s|$)"), ""),
    # A star that marks nothing: of a footnote, or never closed.
    (re.compile(r"(?<![\w*])\*(?=[^\W\d_])|(?<=[^\W\d_])\*(?![\w*])"), ""),
]

# What begins an item of a list, and numbers that are no sentence's end.
_ITEM = re.compile(r"[ \t]*(?:>[ \t]?)*(?:[-*+•‣◦▪][ \t]+|(?:\d{1,3}[.)]|[a-z]\))[ \t]+)\S")
_NUMBER_MARK = re.compile(r"^(\d{1,3}|[a-z])\)\s+")

# A line of prose is longer than a heading, and ends with a mark.
_LONGEST_HEADING = 60
_MARKS = ".,;:!?…。，、；：！？–—-\"'”’)»』」"
_NUMBERED = re.compile(
    r"(?i)(chapter|part|book|act|scene|section|prologue|epilogue|kapitel|teil|"
    r"chapitre|partie|capítulo|capitolo|parte|глава|часть)\b"
)


def paragraphs(text: str) -> list[str]:
    """Paragraphs of a text, each on one line; headings, table rows and quotes are plain.

    Paragraphs end at empty lines, at lines without letters or digits, such as `* * *` or `---`,
    before and after headings, and at what ends a page or a paragraph in other programs. Code
    between fences is left out, and so are definitions of links; links that refer to them are their
    words. Words that a line's end cut are joined.
    """
    text = _without_code(_FRONT_MATTER.sub("", with_line_ends(text)))
    text = without_block_tags(text, "\n\n")
    blocks: list[list[str]] = [[]]
    lines = with_whole_words(text).split("\n")
    names = {_name(found[1]) for found in map(_DEFINITION.match, lines) if found}
    is_table, in_item = False, False
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        is_rule = _TABLE_RULE.match(line) is not None
        is_table = "|" in line and (is_rule or is_table)
        is_row = is_table or _is_row(line, following)
        words = _cells(line) if is_row else _LINE_MARKS.sub("", _FOOTNOTE.sub("", line)).strip()
        is_item = not is_row and _ITEM.match(line) is not None
        if in_item and blocks[-1] and (is_item or not line.strip()):
            blocks[-1][-1] = _ended(blocks[-1][-1])
        in_item = is_item or (in_item and bool(line.strip()))
        is_plain = not is_row and not is_item and line.strip() == words
        if _DEFINITION.match(line) or _DIVISION.match(line) or not says_something(words):
            blocks.append([])
        elif _HEADING.match(line):
            blocks += [[_HEADING_END.sub("", words)], []]
        elif is_plain and not blocks[-1] and _is_heading(words, following.strip()):
            blocks += [[words], []]
        else:
            blocks[-1].append(_NUMBER_MARK.sub(r"\1. ", words) if is_item else words)
    if in_item and blocks[-1]:
        blocks[-1][-1] = _ended(blocks[-1][-1])
    found = (_without_references(_on_one_line(block), names) for block in blocks if block)
    return list(filter(None, found))


def without_scene_breaks(text: str) -> str:
    """Text without the lines that have neither letters nor digits, such as `* * *`."""
    return "\n".join(filter(says_something, with_line_ends(text).split("\n")))


def without_markup(text: str) -> str:
    """One paragraph without Markdown's marks, HTML tags and entities."""
    for pattern, replacement in _INLINE:
        text = pattern.sub(replacement, text)
    if "<" in text:
        text = _AUTOLINK.sub(lambda found: found[1].removeprefix("mailto:"), text)
        text = without_inline_tags(without_block_tags(text, " "))
        text = re.sub(r"(?<![\w\s])<([A-Za-z][^<>=]*)>|(?<=\s)<([A-Za-z][^<>=]*)>", r"\1\2", text)
    for _ in range(2):  # some programs write &amp;amp;
        text = _ENTITY.sub(lambda found: html.unescape(found.group()), text)
    return text


def _without_code(text: str) -> str:
    """Text without code between fences; of a fence that is never closed, only its line is left
    out."""
    kept, start, ends = [], 0, Ends(text)
    while fence := _FENCE.search(text, start):
        mark = f"{re.escape(fence[1][0])}{{{len(fence[1])},}}"
        end = ends.after(fence.end(), rf"(?m:^ {{0,3}}{mark}[ \t]*$)")
        kept += [text[start : fence.start()], "\n\n"]
        start = fence.end() if end is None else end
    return "".join(kept) + text[start:]


def _without_references(text: str, names: set[str]) -> str:
    """Text with the words of links, and without images, whose definitions have these names.

    Other brackets side by side are citations, `[1][2]`, or marks for the model.
    """
    if not names:
        return text
    kept, start, place = [], 0, 0
    while found := _REFERENCE.search(text, place):
        image, words, name = found.groups()
        # Of two numbers both of which are defined, the first is a citation as well.
        is_citation = words.isdigit() and words in names
        if _name(name or words) in names and not is_citation:
            kept += [text[start : found.start()], "" if image else words]
            start = place = found.end()
        else:
            place = found.start(3) - 1  # what stands there may be the words of the next
    return "".join(kept) + text[start:]


def _name(text: str) -> str:
    """Name of a definition, in which case and white space make no difference."""
    return " ".join(text.split()).casefold()


def _is_row(line: str, following: str) -> bool:
    """Whether a line is a table's row: between bars, or the head of a table without them."""
    bare = line.strip()
    if len(bare) > 2 and bare.startswith("|") and bare.endswith("|"):
        return True
    return "|" in bare and "|" in following and _TABLE_RULE.match(following) is not None


def _cells(line: str) -> str:
    """Cells of a table's row, as a sentence."""
    if _TABLE_RULE.match(line):
        return ""
    cells = [each.strip() for each in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
    return _ended(", ".join(filter(None, cells)))


def _ended(words: str) -> str:
    """Words of a row or an item as a sentence."""
    if not words or words[-1] in _MARKS:
        return words
    return words + ("。" if re.search(rf"[{_SPACELESS}]$", words) else ".")


def _is_heading(line: str, following: str) -> bool:
    """Whether a block's first line is a heading: short, without a mark at its end, before a line
    that begins anew."""
    if not following or len(line) > _LONGEST_HEADING or line[-1] in _MARKS:
        return False
    begins = following.lstrip("\"'“‘«([*_")[:1]
    if not begins or begins.islower() or not says_something(following):
        return False
    words = [each for each in line.split() if each[0].isalpha()]
    capitals = sum(each[0].isupper() or len(each) < 4 for each in words)
    is_title = bool(words) and words[0][0].isupper() and capitals == len(words) and len(words) < 9
    is_short = len(line) <= 0.5 * len(following)
    return (
        line.isupper() or (is_title and len(words) > 0) or bool(_NUMBERED.match(line)) or is_short
    )


def _on_one_line(lines: list[str]) -> str:
    """Lines joined by spaces, or by none in scripts that have none."""
    text = " ".join(" ".join(lines).split())
    return re.sub(rf"(?<=[{_SPACELESS}]) (?=[{_SPACELESS}])", "", text) if len(lines) > 1 else text


_SPACELESS = "\u3000-\u30ff\u3400-\u9fff\uff01-\uff60"
