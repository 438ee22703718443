"""A long text -> what is spoken at a time: whole sentences, as even in length as can be."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..schema import check_integer, check_number

SEGMENT_LENGTH = 300  # some twenty seconds of speech
PARAGRAPH_PAUSE = 0.5
LONGEST_PAUSE = 60.0

# Of the segment whose sound becomes the voice of all others: about five seconds of speech.
LONG_ENOUGH = 80

# A Chinese, Japanese or Korean character is about three letters of speech.
WIDE = 3

_MARK = re.compile(r"\[\s*pause\s*:\s*([^\]]*)\]", re.IGNORECASE)
_PARAGRAPH = re.compile(r"\n\s*\n")

# After these a sentence that is too long may be split: marks before a space, or of scripts that
# need none. The Khmer full stop is among them because the segmenter doesn't know it.
_CLAUSE = re.compile(r"(?<=[,;:،؛)»”–—])(?=\s)|(?<=\s[–—])(?=\s)|(?<=[，、；：។])")
_WORD = re.compile(r"(?<=\s)(?=\S)")

# What it costs to end a segment elsewhere than at a sentence, against one that stays empty.
_CLAUSE_COST, _WORD_COST, _CHARACTER_COST = 0.25, 1.0, 4.0

# Languages by script, where the text doesn't say its language: each for its abbreviations and
# marks. The others are split well as English.
_LANGUAGES = {"CYRILLIC": "ru", "GREEK": "el", "ARMENIAN": "hy", "ETHIOPIC": "am"}


@dataclass(frozen=True)
class Segment:
    """What is spoken in one go; without text, silence only."""

    text: str
    pause: float = 0.0
    """Seconds of silence after it."""
    sentences: int = 0
    """How many end in it."""


@dataclass(frozen=True)
class _Piece:
    text: str
    cost: float
    """Of ending a segment after it."""


def spoken_length(text: str) -> int:
    """In letters of an alphabet; one of Chinese, Japanese or Korean counts as three."""
    return sum(WIDE if unicodedata.east_asian_width(each) in "WF" else 1 for each in text)


def anchor_of(segments: Sequence[Segment]) -> int:
    """Which segment gives the voice where none is given: the first that is long enough, since a
    title is too short to be cloned, else the longest."""
    lengths = [spoken_length(segment.text) for segment in segments]
    goal = min(LONG_ENOUGH, max(lengths))
    return next(index for index, length in enumerate(lengths) if length >= goal)


def is_one_segment(text: str, segment_length: int = SEGMENT_LENGTH) -> bool:
    """Whether a text is short enough to be spoken in one go, and asks for no pauses."""
    if _MARK.search(text):
        return False
    return not segment_length or spoken_length(text.strip()) <= segment_length


def split_text(
    text: str,
    segment_length: int = SEGMENT_LENGTH,
    paragraph_pause: float = PARAGRAPH_PAUSE,
    language: str | None = None,
) -> list[Segment]:
    """Splits at the ends of sentences, and at all paragraphs and pauses.

    segment_length: at most so long, by `spoken_length`; 0 for no limit. A longer sentence is split
    after commas and the like, then between words, then between characters. A paragraph is what
    empty lines enclose; after it comes a silence of `paragraph_pause` seconds, 0 to 60, or of what
    `[pause:SECONDS]` in the text says there. language: its code, such as "de", for abbreviations;
    None judges by the script. What has no letters or digits, such as a line of stars, is left out.

    Raises ValueError for settings out of range, a pause that can't be read, and a text that says
    nothing.
    """
    check_integer("segment_length", segment_length, 0, None)
    check_number("paragraph_pause", paragraph_pause, 0, LONGEST_PAUSE)
    sentences = _segmenter(language or _language(text))
    segments: list[Segment] = []
    for part, pause in _parts(text, paragraph_pause):
        found = _segments(part, segment_length, sentences)
        if not found:  # a pause alone
            found = [segments.pop() if segments else Segment("")]
        last = found.pop()
        segments += [*found, Segment(last.text, last.pause + pause, last.sentences)]
    if not any(segment.text for segment in segments):
        raise ValueError("text is empty; give the words to speak")
    return segments


def _parts(text: str, paragraph_pause: float) -> list[tuple[str, float]]:
    """What stands between pauses, each with the seconds of the pause after it."""
    parts: list[tuple[str, float | None]] = []
    for paragraph in _joined_to_marks(text):
        pieces = _MARK.split(paragraph)
        words, marks = pieces[::2], [_seconds(mark) for mark in pieces[1::2]]
        parts += list(zip(words[:-1], marks, strict=True))
        # A mark at the end takes the place of the pause between paragraphs.
        parts += [(words[-1], None)] if _says_something(words[-1]) else []
    if parts and parts[-1][1] is None:
        parts[-1] = parts[-1][0], 0.0  # nothing follows the last paragraph
    return [(part, paragraph_pause if pause is None else pause) for part, pause in parts]


def _says_something(text: str) -> bool:
    return any(each.isalnum() for each in text)


def _joined_to_marks(text: str) -> list[str]:
    """Paragraphs; one that begins with a pause belongs to the one before."""
    paragraphs: list[str] = []
    for paragraph in _PARAGRAPH.split(text.strip()):
        if paragraphs and _MARK.match(paragraph.lstrip()):
            paragraphs[-1] += paragraph
        else:
            paragraphs.append(paragraph)
    return paragraphs


def _seconds(mark: str) -> float:
    try:
        seconds = float(mark.strip().removesuffix("s"))
    except ValueError:
        seconds = -1
    if not 0 <= seconds <= LONGEST_PAUSE:
        raise ValueError(
            f"[pause:{mark[:20]}] is no pause; give seconds from 0 to {LONGEST_PAUSE:.0f}, as in "
            "[pause:0.8]"
        )
    return seconds


def _language(text: str) -> str:
    """By the script of its first thousand letters."""
    letters = [each for each in text[:5000] if each.isalpha()][:1000]
    scripts = Counter(unicodedata.name(each, "?").split()[0] for each in letters)
    common = scripts.most_common(1)
    return _LANGUAGES.get(common[0][0], "en") if common else "en"


def _segmenter(language: str) -> Callable[[str], list[str]]:
    import sentencex

    return lambda text: list(sentencex.segment(language, text))


def _segments(text: str, limit: int, sentences: Callable[[str], list[str]]) -> list[Segment]:
    """Of a text without pauses."""
    text = " ".join(text.split())
    if not text:
        return []
    limit = limit or spoken_length(text)
    pieces = [piece for each in sentences(text) for piece in _pieces(each, limit)]
    found = []
    for group in _groups(pieces, limit):
        words = "".join(piece.text for piece in group).strip()
        if _says_something(words):
            found.append(Segment(words, 0.0, sum(not piece.cost for piece in group)))
    return found


def _pieces(sentence: str, limit: int) -> list[_Piece]:
    """What may not be split any further."""
    if spoken_length(sentence.strip()) <= limit:
        return [_Piece(sentence, 0.0)]
    pieces = []
    for clause in _CLAUSE.split(sentence):
        if spoken_length(clause.strip()) <= limit:
            pieces.append(_Piece(clause, _CLAUSE_COST))
            continue
        for words in _runs(_WORD.split(clause), limit):
            pieces += [_Piece(part, _CHARACTER_COST) for part in _cut(words, limit)]
            pieces[-1] = _Piece(pieces[-1].text, _WORD_COST)
        pieces[-1] = _Piece(pieces[-1].text, _CLAUSE_COST)
    pieces[-1] = _Piece(pieces[-1].text, 0.0)
    return pieces


def _runs(words: list[str], limit: int) -> list[str]:
    """Some of them together, since there may be very many without a comma."""
    runs = [""]
    for word in words:
        if runs[-1] and spoken_length(runs[-1] + word) > limit // 8:
            runs.append("")
        runs[-1] += word
    return runs


def _cut(word: str, limit: int) -> list[str]:
    """Anywhere but before a mark that belongs to the character before it."""
    if spoken_length(word.strip()) <= limit:
        return [word]
    parts = [""]
    for each in word:
        belongs = unicodedata.category(each).startswith("M")
        if not belongs and spoken_length(parts[-1] + each) > max(1, limit // 4):
            parts.append("")
        parts[-1] += each
    return [part for part in parts if part]


def _groups(pieces: list[_Piece], limit: int) -> list[list[_Piece]]:
    """Neighbours together, none longer than the limit, with the least sum of costs.

    A segment costs the square of the room that it leaves, so that none is left with a word or two.
    """
    lengths = [spoken_length(piece.text) for piece in pieces]
    best: list[tuple[float, int]] = [(0.0, 0)]
    for end in range(1, len(pieces) + 1):
        cost, length, choice = pieces[end - 1].cost, 0, (float("inf"), end - 1)
        for start in range(end - 1, -1, -1):
            length += lengths[start]
            # The space behind the last word is not spoken.
            if length > limit + 1 and start < end - 1:
                break
            room = max(0.0, 1 - length / limit)
            choice = min(choice, (best[start][0] + room**2 + cost, start))
        best.append(choice)
    groups, end = [], len(pieces)
    while end:
        start = best[end][1]
        groups.append(pieces[start:end])
        end = start
    return groups[::-1]
