"""Scripts of dialogues: lines such as `Anna (whispering): Hello.` -> turns."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace

from ..text.characters import says_something
from ..text.segments import PAUSE_MARK
from ..text.spoken import has_words
from .captions import without_caption_marks
from .labels import labels_of, names_alone, speaker_key, split_tags, style_of

ONLY_SPEAKER = "Speaker 1"
"""Who speaks a script without labels."""

_COMMENT = re.compile(r"\s*(?:#(?!\d)|//)")
_DIRECTION = re.compile(r"[\s*_]*(?:[(（][^()（）]*[)）]|\[+[^\[\]]*\]+)[.\s*_]*")
_STYLE_FIRST = re.compile(r"\s*[*_]*([(（][^()（）]*[)）])[*_]*\s*")


@dataclass(frozen=True)
class Turn:
    """What one speaker says before the next one does."""

    speaker: str
    text: str
    """Its words, of one or several lines and paragraphs; [pause:…] marks are left in them."""
    style: str | None = None
    """How it is said, such as "whispering"."""
    line: int = 1
    """Number of its first line."""


@dataclass(frozen=True)
class Script:
    """Turns of a dialogue, in order. Made by `parse_script`."""

    turns: tuple[Turn, ...]
    is_labelled: bool = True
    """Whether its lines name their speakers; else all of it is spoken by one."""
    left_out: tuple[tuple[int, str], ...] = ()
    """Stage directions, which are not spoken, each with the number of its line."""
    names_alone: tuple[str, ...] = ()
    """Names alone on their lines, spoken as words; perhaps speakers without a voice."""

    @property
    def speakers(self) -> tuple[str, ...]:
        """Names of the speakers: by their numbers if all have one, else as they appear."""
        names = list(dict.fromkeys(turn.speaker for turn in self.turns))
        keys = [speaker_key(name) for name in names]
        if all(key.isdecimal() for key in keys):
            names.sort(key=lambda name: int(speaker_key(name)))
        return tuple(names)

    @property
    def first_lines(self) -> dict[str, int]:
        """Number of the line where each speaker begins."""
        return {turn.speaker: turn.line for turn in reversed(self.turns)}

    @property
    def words(self) -> str:
        """All that is said, without names and pauses."""
        return " ".join(PAUSE_MARK.sub(" ", " ".join(turn.text for turn in self.turns)).split())


@dataclass
class _Draft:
    """A turn that is being read."""

    speaker: str
    style: str | None
    line: int
    lines: list[str] = field(default_factory=list)
    has_direction: bool = False
    has_words: bool = False

    def add(self, words: str) -> None:
        """Add a line; a style in parentheses may stand before the first words."""
        if not self.has_words and (found := _STYLE_FIRST.match(words)):
            self.has_direction = True
            styles = [each for each in (self.style, style_of(found[1])) if each]
            self.style = ", ".join(styles) or None
            words = words[found.end() :]
        if words.strip() or self.lines:
            self.lines.append(words.strip())
        self.has_words = self.has_words or has_words(words)

    @property
    def text(self) -> str:
        return re.sub(r"\n{2,}", "\n\n", "\n".join(self.lines)).strip()


def parse_script(text: str, names: Collection[str] = ()) -> Script:
    """Turns of a script.

    names: speakers that have a voice, which are labels wherever they begin a line. A line without
    a label continues the turn before it, and a script without labels has one speaker. Which lines
    are labels, comments and stage directions: see docs/dialogues.md.

    Raises ValueError, with the number of the line, for words without a speaker and a speaker
    without words; and for an empty script.
    """
    if not isinstance(text, str):
        raise ValueError(f"script is a {type(text).__name__}; it must be a string")
    lines = list(_lines(text))
    may_be = [words.strip() and not plain and not _is_direction(words) for _, words, plain in lines]
    spoken = [words for (_, words, _), counts in zip(lines, may_be, strict=True) if counts]
    found = iter(labels_of(spoken, {speaker_key(name) for name in names}))
    labels = [next(found) if counts else None for counts in may_be]
    left_out: list[tuple[int, str]] = []
    drafts: list[_Draft] = []
    is_labelled = any(labels)
    shown: dict[str, str] = {}
    for (number, words, is_plain), label in zip(lines, labels, strict=True):
        if label is not None:
            name = shown.setdefault(label.key, label.name)
            drafts.append(_Draft(name, label.style, number))
            drafts[-1].add(label.text)
        elif not is_plain and _is_direction(words) and not _is_style(words, drafts):
            left_out.append((number, words.strip()))
        elif drafts:
            drafts[-1].add(words)
        elif is_labelled and has_words(words):
            shown_words = words.strip()[:30]
            raise ValueError(
                f"line {number}: {shown_words!r} has no speaker; begin it with a name and a colon, "
                "or with # to leave it out"
            )
        elif words.strip():
            drafts.append(_Draft(ONLY_SPEAKER, None, number))
            drafts[-1].add(words)
    turns = tuple(_turns(drafts, is_labelled))
    if not turns:
        raise ValueError(
            'the script has no words to speak; write lines such as "Speaker 1: Hello."'
        )
    unlabelled = zip(lines, labels, strict=True)
    has_bare = any(label and not label.text for label in labels)
    bare = names_alone(["" if label else words for (_, words, _), label in unlabelled], has_bare)
    return Script(turns, is_labelled, tuple(left_out), tuple(bare))


def _lines(text: str) -> Iterator[tuple[int, str, bool]]:
    """Lines with their numbers, without comments, and whether a backslash marks them as words."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    lines = without_caption_marks(_without_remarks(text).split("\n"))
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith("\\"):
            yield number, line.lstrip()[1:], True
        elif _COMMENT.match(line):
            continue
        elif not says_something(line):
            yield number, "", False  # an empty line, or a scene break such as ***
        else:
            yield from ((number, piece, False) for piece in split_tags(line))


def _without_remarks(text: str) -> str:
    """Text without `<!-- … -->`, with as many lines."""
    kept, start = [], 0
    while (begin := text.find("<!--", start)) >= 0 and (end := text.find("-->", begin)) >= 0:
        kept += [text[start:begin], "\n" * text.count("\n", begin, end)]
        start = end + len("-->")
    return "".join(kept) + text[start:]


def _is_direction(words: str) -> bool:
    return _DIRECTION.fullmatch(words) is not None and PAUSE_MARK.search(words) is None


def _is_style(words: str, drafts: list[_Draft]) -> bool:
    """Whether parentheses on a line of their own are the style of the turn that follows."""
    return bool(drafts) and not drafts[-1].text and _STYLE_FIRST.match(words) is not None


def _turns(drafts: list[_Draft], is_labelled: bool) -> list[Turn]:
    """Turns with words. Pauses of one without words follow the turn before it."""
    found: list[Turn] = []
    pauses = ""
    """Those before the first turn."""
    for draft in drafts:
        text = draft.text
        marks = "".join(f"[pause:{mark}]" for mark in PAUSE_MARK.findall(text))
        if has_words(text):
            found.append(Turn(draft.speaker, pauses + text, draft.style, draft.line))
            pauses = ""
        elif marks and found:
            found[-1] = replace(found[-1], text=found[-1].text + marks)
        elif marks:
            pauses += marks
        elif is_labelled and not text and not draft.has_direction:
            raise ValueError(
                f"line {draft.line}: {draft.speaker} says nothing; write words after the colon, or "
                "delete the line"
            )
    return found
