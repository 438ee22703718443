"""Subtitle files as scripts: SRT and WebVTT without their numbers and times."""

from __future__ import annotations

import html
import re

_TIME = r"(?:\d{1,2}:)?\d{1,2}:\d{2}[.,]\d{1,3}"
_TIMES = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(?:\s.*)?")
_HEADER = re.compile(r"\s*WEBVTT\b")
_TAG = re.compile(r"<\d[\d:.]*>|</?[biuc](?:\.[^<>]*)?>")
"""Times of words, and emphasis."""
_LEFT_OUT = "//"
"""A comment, so that lines keep their numbers."""


def without_caption_marks(lines: list[str]) -> list[str]:
    """Lines of a script, where those that only order or time its subtitles are comments.

    They are WebVTT's header, and the times of each cue with its number and the empty line before
    them: cues follow each other in one turn without a pause. WebVTT's tags inside the
    words are left out.
    """
    found = list(lines)
    times = [index for index, line in enumerate(lines) if _TIMES.fullmatch(line)]
    if times and _HEADER.match(lines[0]):
        found = [_LEFT_OUT, *(html.unescape(_TAG.sub("", line)) for line in lines[1:])]
    for index in times:
        found[index] = _LEFT_OUT
        before = index - 1
        if before >= 0 and lines[before].strip().isdecimal():
            found[before] = _LEFT_OUT
            before -= 1
        if before >= 0 and not lines[before].strip():
            found[before] = _LEFT_OUT
    return found
