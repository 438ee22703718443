"""Cues of subtitles: sentences in two short lines, with times from the sound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from ..audio.clips import FRAME_SECONDS, SILENT, SPEAKING, highest_level
from ..recognition.word_times import WordTime, aligned
from ..text.segments import spoken_length
from ..text.sentences import sentences
from ..text.words import characters_of, has_no_spaces, words_of

LINE_LENGTH = 42
LINES = 2

# A pause shorter than this is the closure of a consonant.
_SHORTEST_PAUSE = 0.08
# Seconds that a boundary may lie from where the letters put it, and the share of the segment.
_REACH, _REACH_SHARE = 0.6, 0.2
_LOUD_SECONDS = 0.1
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
    texts = [part for each in sentences(text, language) for part in _pages(each.strip(), speaker)]
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
    ends = np.cumsum([width(piece) for piece in pieces])
    places = [0]
    for number in range(1, count):
        goal = ends[-1] * number / count
        costs = [
            abs(end - goal) - (12 if piece.rstrip()[-1:] in _CLAUSE_ENDS else 0)
            for end, piece in zip(ends, pieces, strict=True)
        ]
        places.append(max(int(np.argmin(costs)) + 1, places[-1] + 1))
    places = [min(place, len(pieces)) for place in places] + [len(pieces)]
    return ["".join(pieces[a:b]).strip() for a, b in pairwise(places) if b > a]


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
            bonus = 12 if first[-1:] in _CLAUSE_ENDS else 0
            best = min(best or (1000, ""), (longest - bonus, f"{first}\n{second}"))
    return best and best[1]


def spans_by_pauses(
    texts: Sequence[str], audio: np.ndarray, sample_rate: int
) -> list[tuple[float, float]]:
    """Start and end of each text in seconds of the audio."""
    first, last, pauses = _pauses(audio, sample_rate)
    letters = [max(1, spoken_length("".join(filter(str.isalnum, text)))) for text in texts]
    shares = np.cumsum([0, *letters]) / sum(letters)
    silent = sum(end - begin for begin, end in pauses)
    expected = [_at(share * (last - first - silent), first, pauses) for share in shares[1:-1]]
    chosen = _nearest(expected, pauses, max(_REACH, _REACH_SHARE * (last - first)))
    # Between pauses that were found, the letters decide.
    anchors = {0: (first, first), len(texts): (last, last)}
    anchors |= {number + 1: pause for number, pause in enumerate(chosen) if pause}
    known = sorted(anchors)
    times = np.interp(shares, shares[known], [sum(anchors[each]) / 2 for each in known])
    edges = [anchors.get(number, (time, time)) for number, time in enumerate(times)]
    return [(float(a[1]), float(b[0])) for a, b in pairwise(edges)]


def _at(spoken: float, first: float, pauses: Sequence[tuple[float, float]]) -> float:
    """Time at which so many seconds of speech have been heard, pauses not counted."""
    time = first + spoken
    for begin, end in pauses:
        if begin >= time:
            break
        time += end - begin
    return time


def _pauses(audio: np.ndarray, sample_rate: int) -> tuple[float, float, list[tuple[float, float]]]:
    """Start and end of the speech, and the pauses inside it, in seconds."""
    length = max(1, round(FRAME_SECONDS / 2 * sample_rate))
    whole = audio[: len(audio) // length * length].reshape(-1, length).astype(np.float64)
    levels = np.sqrt(np.mean(whole**2, axis=1)) if len(whole) else np.zeros(0)
    seconds = len(audio) / sample_rate
    if not len(levels):
        return 0.0, seconds, []
    loud = levels >= max(SILENT, SPEAKING * highest_level(levels, 2 * _LOUD_SECONDS))
    sounding = np.flatnonzero(loud)
    if not len(sounding):
        return 0.0, seconds, []
    frame = length / sample_rate
    gaps = [
        ((int(before) + 1) * frame, int(after) * frame)
        for before, after in pairwise(sounding)
        if (after - before - 1) * frame >= _SHORTEST_PAUSE
    ]
    return int(sounding[0]) * frame, min(seconds, (int(sounding[-1]) + 1) * frame), gaps


def _nearest(
    expected: Sequence[float], pauses: Sequence[tuple[float, float]], reach: float
) -> list[tuple[float, float] | None]:
    """A pause for each time, in order, or None: near ones and long ones, by least cost."""
    rows, columns = len(expected), len(pauses)
    costs = np.zeros((rows + 1, columns + 1))
    for row in range(1, rows + 1):
        for column in range(1, columns + 1):
            begin, end = pauses[column - 1]
            distance = max(begin - expected[row - 1], expected[row - 1] - end, 0.0) / reach
            gain = distance - 1 - min(1.0, end - begin)
            matched = costs[row - 1, column - 1] + (gain if distance < 1 else 0.0)
            costs[row, column] = min(matched, costs[row - 1, column], costs[row, column - 1])
    chosen: list[tuple[float, float] | None] = [None] * rows
    row, column = rows, columns
    while row and column:
        if costs[row, column] == costs[row, column - 1]:
            column -= 1
        elif costs[row, column] == costs[row - 1, column]:
            row -= 1
        else:
            row, column = row - 1, column - 1
            chosen[row] = pauses[column]
    return chosen
