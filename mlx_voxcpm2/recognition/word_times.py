"""Times of words in speech, by a recogniser that gives them, aligned with the text."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .protocols import TranscriptSegment


@dataclass(frozen=True)
class WordTime:
    """A word and when it is spoken, in seconds."""

    text: str
    start: float
    end: float


_LONG = 1000
"""Recognised words from which on a text is long."""

WordTimer = Callable[[np.ndarray, int], list[WordTime]]
"""Audio (samples,), float32, -1..1, and its sample rate in Hz -> its words in order."""


def words_in(output: Any) -> list[WordTime] | None:
    """Words of a recogniser's output, or None if it has no times of words.

    output: of mlx-audio: segments with `words` (Whisper), or sentences with `tokens` (Parakeet).
    """
    found: list[WordTime] = []
    has_times = False
    for segment in _entries(output, "segments") or _entries(output, "sentences"):
        words = _entries(segment, "words")
        # Whisper's tokens are numbers without times.
        tokens = [each for each in _entries(segment, "tokens") if _value(each, "start") is not None]
        has_times = has_times or _value(segment, "words") is not None or bool(tokens)
        found += [_word(each) for each in words] or _joined([_word(each) for each in tokens])
    return found if has_times else None


def segments_in(output: Any) -> list[TranscriptSegment] | None:
    """Segments of a recogniser's output that have words, or None if it has none with times.

    output: see `words_in`.
    """
    found = _entries(output, "segments") or _entries(output, "sentences")
    if not found or any(_value(each, "start") is None for each in found):
        return None
    timed = [_word(each) for each in found]
    return [TranscriptSegment(" ".join(w.text.split()), w.start, w.end) for w in timed if w.text]


def _entries(item: Any, name: str) -> list[Any]:
    value = item.get(name) if isinstance(item, dict) else getattr(item, name, None)
    return list(value or [])


def _value(item: Any, *names: str) -> Any:
    found = (
        item.get(name) if isinstance(item, dict) else getattr(item, name, None) for name in names
    )
    return next((each for each in found if each is not None), None)


def _word(item: Any) -> WordTime:
    start, end = float(_value(item, "start") or 0), _value(item, "end")
    text = str(_value(item, "word", "text") or "")
    return WordTime(text, start, max(start, float(start if end is None else end)))


def _joined(tokens: list[WordTime]) -> list[WordTime]:
    """Words of tokens: one begins with a space."""
    words: list[WordTime] = []
    for token in tokens:
        if words and not token.text.startswith((" ", "▁")):
            words[-1] = WordTime(words[-1].text + token.text, words[-1].start, token.end)
        else:
            words.append(WordTime(token.text.lstrip("▁"), token.start, token.end))
    return words


def aligned(texts: Sequence[str], words: Sequence[WordTime]) -> list[tuple[WordTime, ...]]:
    """Words of each text with the times of the recognised ones that are the same.

    Words that were recognised otherwise take the time between their neighbours; a text of which
    nothing was recognised has none.
    """
    if not words:
        return [()] * len(texts)
    written = [(number, word) for number, text in enumerate(texts) for word in text.split()]
    # In a long text frequent words are no beginnings of matches: each occurs again and again.
    is_long = len(words) > _LONG
    keys = ([_key(word) for _, word in written], [_key(each.text) for each in words])
    matcher = difflib.SequenceMatcher(None, *keys, autojunk=is_long)
    times: list[WordTime | None] = [None] * len(written)
    matched: set[int] = set()
    for kind, start, stop, first, last in matcher.get_opcodes():
        if kind == "equal" or stop - start == last - first:  # as many words misunderstood
            times[start:stop] = words[first:last]
        if kind == "equal":
            matched.update(number for number, _ in written[start:stop])
    filled = _filled([word for _, word in written], times, words[-1].end)
    found: list[list[WordTime]] = [[] for _ in texts]
    for (number, _), time in zip(written, filled, strict=True):
        found[number].append(time)
    return [tuple(each) if number in matched else () for number, each in enumerate(found)]


def _key(word: str) -> str:
    plain = unicodedata.normalize("NFKC", word).casefold()
    return "".join(filter(str.isalnum, plain)) or plain


def _filled(written: Sequence[str], times: Sequence[WordTime | None], end: float) -> list[WordTime]:
    """Times of all words: those between two that are known share the time between them."""
    filled: list[WordTime] = []
    number, before = 0, 0.0
    while number < len(written):
        time = times[number]
        if time is not None:
            filled.append(WordTime(written[number], time.start, time.end))
            before, number = time.end, number + 1
            continue
        stop = next((i for i in range(number, len(times)) if times[i]), len(times))
        known = times[stop] if stop < len(times) else None
        after = max(before, end if known is None else known.start)
        edges = np.linspace(before, after, stop - number + 1)
        filled += [
            WordTime(word, float(a), float(b))
            for word, a, b in zip(written[number:stop], edges[:-1], edges[1:], strict=True)
        ]
        number = stop
    return filled
