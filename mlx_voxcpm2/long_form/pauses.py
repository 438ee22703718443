"""Times of texts in the speech that they became, by its pauses and by their letters."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from ..audio.clips import FRAME_SECONDS, SILENT, SPEAKING, highest_level
from ..text.segments import spoken_length

# A pause shorter than this is the closure of a consonant.
_SHORTEST_PAUSE = 0.08
# Seconds that a boundary may lie from where the letters put it, and the share of the segment.
_REACH, _REACH_SHARE, _LONGEST_REACH = 0.6, 0.2, 10.0
_LOUD_SECONDS = 0.1


def spans_by_pauses(
    texts: Sequence[str], audio: np.ndarray, sample_rate: int
) -> list[tuple[float, float]]:
    """Start and end of each text in seconds of the audio."""
    first, last, pauses = _pauses(audio, sample_rate)
    letters = [max(1, spoken_length("".join(filter(str.isalnum, text)))) for text in texts]
    shares = np.cumsum([0, *letters]) / sum(letters)
    silent = sum(end - begin for begin, end in pauses)
    expected = _times_of(shares[1:-1] * (last - first - silent), first, pauses)
    reach = min(max(_REACH, _REACH_SHARE * (last - first)), _LONGEST_REACH)
    chosen = _nearest(expected, pauses, reach)
    # Between pauses that were found, the letters decide.
    anchors = {0: (first, first), len(texts): (last, last)}
    anchors |= {number + 1: pause for number, pause in enumerate(chosen) if pause}
    known = sorted(anchors)
    times = np.interp(shares, shares[known], [sum(anchors[each]) / 2 for each in known])
    edges = [anchors.get(number, (time, time)) for number, time in enumerate(times)]
    return [(float(a[1]), float(b[0])) for a, b in pairwise(edges)]


def _times_of(
    spoken: np.ndarray, first: float, pauses: Sequence[tuple[float, float]]
) -> list[float]:
    """Times at which so many seconds of speech have been heard, pauses not counted."""
    silent = np.cumsum([0.0, *(end - begin for begin, end in pauses)])
    begins = np.array([begin for begin, _ in pauses]) - first - silent[:-1]
    return list(first + spoken + silent[np.searchsorted(begins, spoken)])


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
    """A pause for each time, in order, or None: near ones and long ones, by least cost.

    expected: rising times. reach: how far from its time a pause may be. Each time is compared only
    with the pauses that are so near: a table of least costs has a row for each time, with the
    first pauses left out that are too early for it, and the last ones that are too late.
    """
    begins, ends = [begin for begin, _ in pauses], [end for _, end in pauses]
    spans = [(bisect_right(ends, t - reach), bisect_left(begins, t + reach)) for t in expected]
    rows: list[tuple[int, list[float]]] = [(0, [0.0])]
    for time, (low, high) in zip(expected, spans, strict=True):
        costs = [_cost(rows[-1], low)]
        for column in range(low, high):
            begin, end = pauses[column]
            distance = max(begin - time, time - end, 0.0) / reach
            matched = _cost(rows[-1], column) + distance - 1 - min(1.0, end - begin)
            costs.append(min(matched, _cost(rows[-1], column + 1), costs[-1]))
        rows.append((low, costs))
    chosen: list[tuple[float, float] | None] = [None] * len(expected)
    row, column = len(expected), len(pauses)
    while row:
        low, costs = rows[row]
        column = min(column, low + len(costs) - 1)
        if column > low and costs[column - low] == costs[column - low - 1]:
            column -= 1
        elif costs[column - low] == _cost(rows[row - 1], column):
            row -= 1
        else:
            row, column = row - 1, column - 1
            chosen[row] = pauses[column]
    return chosen


def _cost(row: tuple[int, list[float]], column: int) -> float:
    """Cost in a row of the table, where columns behind its last are equal to that."""
    low, costs = row
    return costs[min(column - low, len(costs) - 1)]
