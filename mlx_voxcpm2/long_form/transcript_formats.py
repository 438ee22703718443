"""Formats of a transcript: text, subtitles, and JSON as in OpenAI's API."""

from __future__ import annotations

import json

from .subtitles import subtitles
from .transcription import Transcription

MEDIA_TYPES = {
    "txt": "text/plain; charset=utf-8",
    "srt": "application/x-subrip; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
    "json": "application/json",
    "verbose_json": "application/json",
}
FORMATS = tuple(MEDIA_TYPES)
ALIASES = {"text": "txt"}
"""Names of OpenAI's API -> ours."""


def checked_format(name: str) -> str:
    """Our name of a format. Raises ValueError if there is none."""
    name = ALIASES.get(name, name)
    if name not in FORMATS:
        raise ValueError(f"format is {name!r}; it must be {' or '.join(map(repr, FORMATS))}")
    return name


def needs_times(format: str) -> bool:
    """Whether a format holds the times of segments."""
    return checked_format(format) in ("srt", "vtt", "verbose_json")


def formatted(transcription: Transcription, format: str) -> str:
    """Content of a file with a transcript. Raises ValueError for an unknown format."""
    name = checked_format(format)
    if name == "txt":
        return transcription.text + "\n"
    if name in ("srt", "vtt"):
        return subtitles(transcription.cues, f".{name}")
    found: dict[str, object] = {"text": transcription.text}
    if name == "verbose_json":
        found = {
            "task": "transcribe",
            "language": transcription.language or "",  # which typed clients want to be a string
            "duration": round(transcription.duration, 3),
            **found,
            "segments": [
                {"id": number, "start": round(each.start, 3), "end": round(each.end, 3)}
                | {"text": each.text}
                for number, each in enumerate(transcription.segments)
            ],
        }
        if transcription.words:
            found["words"] = [
                {"word": each.text, "start": round(each.start, 3), "end": round(each.end, 3)}
                for each in transcription.words
            ]
    return json.dumps(found, ensure_ascii=False) + "\n"
