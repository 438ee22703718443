"""Subtitles: SubRip (.srt) and WebVTT (.vtt)."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from pathlib import Path

from ..audio.writing import check_target, os_errors, target_path
from ..files import atomic_write
from .cues import Cue

FORMATS = (".srt", ".vtt")


def check_subtitles(path: str | Path) -> Path:
    """Path of the file to write. Raises ValueError or OSError if it can't be one."""
    file = Path(path)
    if file.suffix.lower() not in FORMATS:
        raise ValueError(f"subtitles: {str(path)!r}; end the name in {' or '.join(FORMATS)}")
    check_target(file, "subtitles")
    return target_path(file)


def subtitles(cues: Iterable[Cue], suffix: str) -> str:
    """Content of a subtitle file with this suffix."""
    is_vtt = suffix.lower() == ".vtt"
    blocks = ["WEBVTT"] if is_vtt else []
    for number, cue in enumerate(cues, 1):
        times = f"{_clock(cue.start)} --> {_clock(cue.end)}"
        if is_vtt:
            blocks.append(f"{times.replace(',', '.')}\n{_voice(cue)}{_timed_text(cue)}")
        else:
            blocks.append(f"{number}\n{times}\n{cue.labelled}")
    return "\n\n".join(blocks) + "\n"


def write_subtitles(path: str | Path, cues: Iterable[Cue]) -> None:
    """Write subtitles, whole or not at all. Raises what `check_subtitles` raises."""
    file = check_subtitles(path)
    with os_errors(file, "subtitles"):
        atomic_write(file, subtitles(cues, Path(path).suffix).encode())


def _voice(cue: Cue) -> str:
    """Tag of WebVTT that names the speaker."""
    return f"<v {html.escape(cue.speaker, quote=False)}>" if cue.speaker else ""


def _timed_text(cue: Cue) -> str:
    """Text of a WebVTT cue, with the time of each word but the first in front of it."""
    pieces = re.split(r"(\s+)", cue.text)
    if len(cue.words) != len(pieces[::2]):
        return html.escape(cue.text, quote=False)
    words = [html.escape(piece, quote=False) for piece in pieces]
    for number, word in enumerate(cue.words[1:], 1):
        if cue.start < word.start < cue.end:
            words[2 * number] = f"<{_clock(word.start).replace(',', '.')}>{words[2 * number]}"
    return "".join(words)


def _clock(seconds: float) -> str:
    """Time as HH:MM:SS,mmm."""
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d},{rest % 1000:03d}"
