"""Cues of subtitles: sentences in two short lines, with times from the sound."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import numpy as np

from ..recognition.word_times import WordTime, aligned
from ..text.segments import spoken_length
from ..text.sentences import sentences
from ..text.words import characters_of, has_no_spaces, words_of
from .pauses import spans_by_pauses

LINE_LENGTH = 42
LINES = 2

# Cues into which one sentence is divided at a time.
_BLOCK = 8
_CLAUSE_BONUS = 12
_CLAUSE_ENDS = ",;:،؛，、；：–—.!?。！？…"


@dataclass(frozen=True)
class Cue:
    """Text of one or two lines, and when it is spoken."""

    text: str
    start: float
    """Seconds from the beginning of the whole."""
    end: float
    words: tuple[WordTime, ...] = ()
    """Times of its words in seconds of the whole, if a recogniser gave them."""
    speaker: str = ""
    """Who says it, in a dialogue."""

    @property
    def labelled(self) -> str:
        """The text with its speaker in front, on two lines if it fits."""
        text = f"{self.speaker}: {self.text}" if self.speaker else self.text
        return text if not self.speaker else _lines(unbroken(text)) or text


def cues_of(
    text: str,
    audio: np.ndarray,
    sample_rate: int,
    start: float = 0.0,
    *,
    language: str | None = None,
    words: Sequence[WordTime] = (),
    speaker: str = "",
) -> list[Cue]:
    """Cues of a segment.

    audio: its speech (samples,), which begins at `start` seconds of the whole. words: what a
    recogniser understood, with times from the beginning of the audio. Without them a cue begins
    and ends at the pauses of the speech that are nearest to its share of the letters, or, where
    none is near, at that share.
    """
    # A text of one segment still has its own line breaks; an empty line would end its cue.
    spoken = [" ".join(each.split()) for each in sentences(text, language)]
    texts = [page for each in spoken if each for page in _pages(each, speaker)]
    if not texts:
        return []
    spans = spans_by_pauses(texts, audio, sample_rate)
    timed = aligned([unbroken(each) for each in texts], words)
    cues = []
    for each, (first, last), found in zip(texts, spans, timed, strict=True):
        if found:
            first, last = found[0].start, found[-1].end
        shifted = tuple(WordTime(w.text, w.start + start, w.end + start) for w in found)
        cues.append(Cue(each, start + first, start + last, shifted, speaker))
    return _in_order(cues)


def _in_order(cues: list[Cue]) -> list[Cue]:
    """Cues of which none begins before the one in front of it ends."""
    ordered: list[Cue] = []
    for cue in cues:
        earliest = ordered[-1].end if ordered else 0.0
        first = max(cue.start, earliest)
        ordered.append(replace(cue, start=first, end=max(cue.end, first)))
    return ordered


def unbroken(text: str) -> str:
    """Text of a cue on one line."""
    return text.replace("\n", "" if has_no_spaces(text) else " ")


def width(text: str) -> int:
    """Letters of a line; a wide one counts as two."""
    return (spoken_length(text) - len(text)) // 2 + len(text)


def _pages(sentence: str, speaker: str = "") -> list[str]:
    """A sentence as texts of at most two lines, of lengths as even as possible.

    speaker: a name that has room in front of each, unless it is very long.
    """
    count = -(-width(sentence) // (_BLOCK * LINES * LINE_LENGTH))
    blocks = [sentence] if count < 2 else _even(_pieces(sentence), count)
    return [page for block in blocks for page in _pages_of_block(block, speaker)]


def _pages_of_block(sentence: str, speaker: str) -> list[str]:
    pieces = _pieces(sentence)
    total, limit = width(sentence), LINES * LINE_LENGTH
    label = f"{speaker}: " if speaker and width(speaker) < LINE_LENGTH // 2 else ""
    for count in range(-(-total // limit), total + 1):
        texts = _even(pieces, max(count, 1))
        pages = [_lines(page) for page in texts]
        if all(pages) and all(_lines(label + page) for page in texts):
            return [page for page in pages if page]
    return [sentence]


def _pieces(sentence: str) -> list[str]:
    """Words with the spaces after them; those longer than a line are cut."""
    found: list[str] = []
    for word in sentence.split(" "):
        parts = words_of(word) if has_no_spaces(word) else [word]
        cut = (part for part in parts for part in _cut(part))
        found += [*cut]
        found[-1:] = [f"{found[-1]} "] if found else []
    return found


def _cut(word: str) -> list[str]:
    characters = characters_of(word)
    length = LINE_LENGTH if width(word) == len(word) else LINE_LENGTH // 2
    parts = range(0, len(characters), length)
    return ["".join(characters[i : i + length]) for i in parts] or [""]


def _even(pieces: list[str], count: int) -> list[str]:
    """Pieces joined into so many texts of nearly equal width, ending at clauses where near."""
    ends = list(accumulate(map(width, pieces)))
    places = [0]
    for number in range(1, count):
        place = _end_near(ends[-1] * number / count, pieces, ends)
        places.append(max(place + 1, places[-1] + 1))
    places = [min(place, len(pieces)) for place in places] + [len(pieces)]
    return ["".join(pieces[a:b]).strip() for a, b in pairwise(places) if b > a]


def _end_near(goal: float, pieces: list[str], ends: list[int]) -> int:
    """Index of the piece that ends nearest to the goal, or at a clause not much farther."""
    after = min(bisect_left(ends, goal), len(ends) - 1)
    reach = min(abs(ends[each] - goal) for each in (max(0, after - 1), after)) + _CLAUSE_BONUS
    near = range(bisect_left(ends, goal - reach), bisect_right(ends, goal + reach))
    return min(near, key=lambda each: abs(ends[each] - goal) - _bonus(pieces[each]))


def _bonus(text: str) -> int:
    """Letters by which a line may be longer if it ends with this text."""
    return _CLAUSE_BONUS if text.rstrip()[-1:] in _CLAUSE_ENDS else 0


def _lines(page: str) -> str | None:
    """A text on one line or two, or None if it is too long for them."""
    if width(page) <= LINE_LENGTH:
        return page
    pieces = _pieces(page)
    best: tuple[int, str] | None = None
    for place in range(1, len(pieces)):
        first, second = "".join(pieces[:place]).strip(), "".join(pieces[place:]).strip()
        longest = max(width(first), width(second))
        if longest <= LINE_LENGTH and second:
            best = min(best or (1000, ""), (longest - _bonus(first), f"{first}\n{second}"))
    return best and best[1]
