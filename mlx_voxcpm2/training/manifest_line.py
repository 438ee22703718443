"""One line of a manifest: its content, its problems, and its fields, parsed and checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import shown
from ..schema import parse_json

FIELDS = ("audio", "text", "ref_audio", "is_prompt", "duration", "ref_duration", "dataset_id")


Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Line:
    """One example of the data set; its files hold audio."""

    number: int
    """Number of the line in the file, from 1."""
    audio: Path
    text: str
    ref_audio: Path | None = None
    is_prompt: bool = False
    """Whether the audio is only context, not a target."""
    voices: tuple[Path, ...] = ()
    """Of a dialogue: a clip of each speaker, the lowest number first."""

    @property
    def voice_clips(self) -> tuple[tuple[str, Path], ...]:
        """Clips that only say how the target sounds, with the names of their fields."""
        reference = () if self.ref_audio is None else (("ref_audio", self.ref_audio),)
        return reference + tuple(("voices", voice) for voice in self.voices)

    @property
    def clips(self) -> tuple[Path, ...]:
        """All clips, the target first."""
        return (self.audio, *(clip for _, clip in self.voice_clips))


@dataclass(frozen=True)
class Problem:
    """An error, which makes a line unusable, or a warning."""

    number: int
    """Number of the line, from 1; 0 for the whole manifest."""
    message: str
    severity: Severity

    def __str__(self) -> str:
        return f"line {self.number}: {self.message}" if self.number else self.message


@dataclass(frozen=True)
class Limits:
    """Limits for the length of a clip and of a line."""

    min_seconds: float = 0.3
    """A shorter clip is a warning, as upstream."""
    max_seconds: float = 30.0
    """A longer clip is a warning, as upstream."""
    max_positions: int | None = None
    """Maximum sequence length of a line; a longer one is an error (upstream drops the line).

    Checked only with a model, whose context is a limit in any case.
    """

    def __post_init__(self) -> None:
        if not 0 <= self.min_seconds < self.max_seconds:
            raise ValueError(
                f"min_seconds is {self.min_seconds} and max_seconds {self.max_seconds}; the first "
                "must be smaller, and not negative"
            )
        if self.max_positions is not None and self.max_positions < 1:
            raise ValueError(f"max_positions is {self.max_positions}; it must be positive")


def parse_object(data: bytes) -> dict:
    """JSON object of a line. Raises ValueError if it is anything else."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text; save the manifest as UTF-8") from None
    try:
        entry = parse_json(text)
    except ValueError as error:
        raise ValueError(f"not JSON ({error}); write one object per line") from None
    if not isinstance(entry, dict):
        raise ValueError(f"JSON of type {type(entry).__name__}; write one object per line")
    return entry


def check_text(field: str, value: object) -> str:
    """Returns a text that is not empty. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError(f"{field} is of type {type(value).__name__}; it must be a string")
    if not value.strip():
        raise ValueError(f"{field} is empty; it must say something")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{field} holds half of a surrogate pair; write it as UTF-8") from None
    return value


def check_flag(field: str, value: object) -> bool:
    """Returns a boolean, also from 0 or 1. Raises ValueError."""
    if value not in (False, True):
        raise ValueError(f"{field} is {shown(value)}; it must be true or false")
    return bool(value)


def check_path(field: str, value: object) -> str:
    """Returns a path, also from an object of the `datasets` library. Raises ValueError."""
    if isinstance(value, dict):
        value = value.get("path")
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{field} is no path; give that of an audio file")
    return value
