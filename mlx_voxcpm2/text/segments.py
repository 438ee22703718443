"""Splitting of long texts into segments: whole sentences, of lengths as even as possible."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from ..schema import check_integer, check_number
from .characters import says_something, speakable
from .markup import paragraphs
from .normalization import INSTRUCTION
from .sentences import sentences
from .words import characters_of, has_no_spaces, words_of

SEGMENT_LENGTH = 300  # about twenty seconds of speech
PARAGRAPH_PAUSE = 0.5
LONGEST_PAUSE = 60.0

# Letters of a segment whose audio is cloned in all others: about five seconds of speech.
LONG_ENOUGH = 80

# A Chinese, Japanese or Korean character is about three letters of speech.
WIDE = 3

PAUSE_MARK = re.compile(r"\[\s*pause\s*:([^\[\]]*)\]", re.IGNORECASE)

# After these a sentence that is too long may be split: marks before a space, or of scripts that
# need none. The Khmer full stop is among them because the segmenter doesn't know it.
_CLAUSE = re.compile(r"(?<=[,;:،؛)»”–—])(?=\s)|(?<=\s[–—])(?=\s)|(?<=[，、；：។])")
_WORD = re.compile(r"(?<=\s)(?=\S)")

# Costs of ending a segment inside a sentence, relative to the cost of an empty segment.
_CLAUSE_COST, _WORD_COST, _CHARACTER_COST = 0.25, 1.0, 4.0


@dataclass(frozen=True)
class Segment:
    """Text that is generated in one go; without text, only silence."""

    text: str
    pause: float = 0.0
    """Seconds of silence after it."""
    sentences: int = 0
    """Number of sentences that end in it."""
    speaker: str = ""
    """Who speaks it; "" where there is one speaker."""
    style: str | None = None
    """How to speak it, such as "whispering", besides the description of the voice."""


@dataclass(frozen=True)
class _Part:
    text: str
    cost: float
    """Cost of ending a segment after it."""


def spoken_length(text: str) -> int:
    """Length in letters of an alphabet; a Chinese, Japanese or Korean one counts as three."""
    return sum(WIDE if unicodedata.east_asian_width(each) in "WF" else 1 for each in text)


def anchor_of(segments: Sequence[Segment]) -> int:
    """Index of the segment to clone if no voice is given: the first that is long enough, else the
    longest. A title is too short to be cloned."""
    found = 0
    for index, segment in enumerate(segments):
        if is_better_sample(segment.text, segments[found].text):
            found = index
    return found


def is_better_sample(text: str, best: str) -> bool:
    """Whether the speech of a text gives a better voice than that of the best text before it."""
    length = spoken_length(best)
    return length < LONG_ENOUGH and length < spoken_length(text)


def is_one_segment(text: str, segment_length: int = SEGMENT_LENGTH) -> bool:
    """Whether a text is short enough for one segment and has no pause marks."""
    if PAUSE_MARK.search(text):
        return False
    return not segment_length or spoken_length(text.strip()) <= segment_length


def split_text(
    text: str,
    segment_length: int = SEGMENT_LENGTH,
    paragraph_pause: float = PARAGRAPH_PAUSE,
    language: str | None = None,
) -> list[Segment]:
    """Split a text at the ends of sentences, and at all paragraphs and pauses.

    segment_length: limit by `spoken_length`; 0 for none. A longer sentence is split at clauses,
    then between words, then between characters. Paragraphs, headings, scene breaks and tables: see
    `markup.paragraphs`. A paragraph is followed by `paragraph_pause` seconds of silence, 0 to 60,
    or by the silence of a `[pause:SECONDS]` mark there. language: a code such as "de", for
    abbreviations; None detects it by the script.

    Raises ValueError for settings out of range, an invalid pause, and a text without words.
    """
    check_integer("segment_length", segment_length, 0, None)
    check_number("paragraph_pause", paragraph_pause, 0, LONGEST_PAUSE)
    segments: list[Segment] = []
    for part, pause in _parts(_joined_to_instruction(text), paragraph_pause):
        found = _segments(part, segment_length, language)
        if not found:  # a pause alone
            found = [segments.pop() if segments else Segment("")]
        last = found.pop()
        segments += [*found, Segment(last.text, last.pause + pause, last.sentences)]
    if not any(segment.text for segment in segments):
        raise ValueError("text is empty; give the words to speak")
    return segments


def _joined_to_instruction(text: str) -> str:
    """Text whose description in parentheses, on lines of its own, is put before what it is of."""
    found = INSTRUCTION.match(text)
    if found is None or not re.match(r"\s*\n\s*\S", text[found.end() :]):
        return text
    return found.group() + " " + text[found.end() :].lstrip()


def _parts(text: str, paragraph_pause: float) -> list[tuple[str, float]]:
    """Texts between pauses, each with the seconds of the pause after it."""
    parts: list[tuple[str, float | None]] = []
    for paragraph in _joined_to_marks(text):
        split = PAUSE_MARK.split(paragraph)
        words, marks = split[::2], [_seconds(mark) for mark in split[1::2]]
        parts += list(zip(words[:-1], marks, strict=True))
        # A mark at the end takes the place of the pause between paragraphs.
        parts += [(words[-1], None)] if says_something(words[-1]) else []
    if parts and parts[-1][1] is None:
        parts[-1] = parts[-1][0], 0.0  # nothing follows the last paragraph
    return [(part, paragraph_pause if pause is None else pause) for part, pause in parts]


def _joined_to_marks(text: str) -> list[str]:
    """Paragraphs, joined to the one before if they begin with a pause mark."""
    found: list[list[str]] = []
    for paragraph in paragraphs(text):
        if found and PAUSE_MARK.match(paragraph):
            found[-1].append(paragraph)
        else:
            found.append([paragraph])
    return ["".join(joined) for joined in found]


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


def _segments(text: str, limit: int, language: str | None) -> list[Segment]:
    """Segments of a text without pauses."""
    text = " ".join(speakable(text).split())
    if not text:
        return []
    limit = limit or spoken_length(text)
    parts = [part for each in sentences(text, language) for part in _split_sentence(each, limit)]
    found = []
    for group in _groups(parts, limit):
        words = "".join(part.text for part in group).strip()
        if says_something(words):
            found.append(Segment(words, 0.0, sum(not part.cost for part in group)))
    return found


def _split_sentence(sentence: str, limit: int) -> list[_Part]:
    """Parts of a sentence that are not split any further."""
    if spoken_length(sentence.strip()) <= limit:
        return [_Part(sentence, 0.0)]
    parts = []
    for clause in _CLAUSE.split(sentence):
        if spoken_length(clause.strip()) <= limit:
            parts.append(_Part(clause, _CLAUSE_COST))
            continue
        parts += _split_clause(clause, limit)
        parts[-1] = _Part(parts[-1].text, _CLAUSE_COST)
    parts[-1] = _Part(parts[-1].text, 0.0)
    return parts


def _split_clause(clause: str, limit: int) -> list[_Part]:
    """Words of a clause, those that are too long cut between characters."""
    words: list[str] = []
    for word in _WORD.split(clause):
        is_long = spoken_length(word) > limit // 8
        words += words_of(word) if is_long and has_no_spaces(word) else [word]
    parts: list[_Part] = []
    for run in _runs(words, limit // 8):
        if spoken_length(run.strip()) > limit:
            parts += [_Part(part, _CHARACTER_COST) for part in _cut(run, limit)]
            parts[-1] = _Part(parts[-1].text, _WORD_COST)
        else:
            parts.append(_Part(run, _WORD_COST))
    return parts


def _runs(pieces: list[str], limit: int) -> list[str]:
    """Pieces joined up to this length, since there may be very many."""
    runs = [""]
    for piece in pieces:
        if runs[-1] and spoken_length(runs[-1] + piece) > limit:
            runs.append("")
        runs[-1] += piece
    return runs


def _cut(word: str, limit: int) -> list[str]:
    """A word cut between characters."""
    return _runs(characters_of(word), max(1, limit // 4))


def _groups(parts: list[_Part], limit: int) -> list[list[_Part]]:
    """Parts grouped into segments below the limit, with the least sum of costs.

    A segment costs the square of the room that it leaves, so that none has only a word or two.
    """
    lengths = [spoken_length(part.text) for part in parts]
    if sum(lengths) <= limit:  # one segment leaves less room than any two
        return [parts]
    best: list[tuple[float, int]] = [(0.0, 0)]
    for end in range(1, len(parts) + 1):
        cost, choice = parts[end - 1].cost, (float("inf"), end - 1)
        length = spoken_length(parts[end - 1].text.rstrip()) - lengths[end - 1]
        for start in range(end - 1, -1, -1):
            length += lengths[start]
            if length > limit and start < end - 1:
                break
            room = max(0.0, 1 - length / limit)
            choice = min(choice, (best[start][0] + room**2 + cost, start))
        best.append(choice)
    groups, end = [], len(parts)
    while end:
        start = best[end][1]
        groups.append(parts[start:end])
        end = start
    return groups[::-1]
