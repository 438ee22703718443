"""Manifests of dialogues: `audio` and `text` (or `script`), with `voices` or `ref_audio`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..models.vibevoice.config import SAMPLE_RATE
from ..vibevoice.model import VibeVoice
from ..vibevoice.script import read_turns
from .manifest import Inspection
from .manifest_line import Line, check_text


class DialogueInspection(Inspection):
    """Reads the lines of VibeVoice's manifests.

    `text`, or `script`, has lines "Speaker 1: text"; `voices` is a list with a clip of each
    speaker, the lowest number first, and `ref_audio` the clip of the only one.
    """

    fields = ("audio", "text", "script", "voices", "ref_audio", "duration", "dataset_id")

    def _sizes(self, model: VibeVoice | None) -> tuple[int, int]:
        return SAMPLE_RATE, 0 if model is None else model.config.positions

    def _checks(self) -> dict[str, Callable[[str, Any], Any]]:
        clip = self._check_clip
        return {"audio": clip, "text": _check_script, "voices": self._check_voices}

    def _read_fields(self, entry: dict) -> tuple[dict, list[ValueError]]:
        entry, errors = dict(entry), []
        for field, other in (("script", "text"), ("ref_audio", "voices")):
            value = entry.pop(field, None)
            if value is None:
                continue
            if entry.get(other) is not None:
                errors.append(ValueError(f"{field} is given beside {other}; leave one out"))
            entry[other] = [value] if other == "voices" else value
        values, found = super()._read_fields(entry)
        errors += found
        if not errors and (error := _check_count(values)):
            errors.append(error)
        return values, errors

    def _check_voices(self, field: str, value: object) -> tuple[Path, ...]:
        """Returns the paths of clips. Raises ValueError."""
        if not isinstance(value, list):
            raise ValueError(f"{field} is of type {type(value).__name__}; give a list of clips")
        return tuple(self._check_clip(field, each) for each in value)

    def _check_length(self, number: int, field: str, path: Path) -> None:
        """A dialogue is as long as it is: only its positions are limited."""
        if self._samples[path] < self._rate * self._limits.min_seconds:  # type: ignore[operator]
            super()._check_length(number, field, path)

    def _check_line(self, line: Line) -> None:
        if self._model is not None:
            try:
                self._positions(line)
            except ValueError as error:  # a control token in the text
                self._report(line.number, "error", error)
                return
        super()._check_line(line)

    def _positions(self, line: Line) -> int:
        if self._model is None:
            return 0
        model: VibeVoice = self._model
        frames = [-(-int(self._samples[clip]) // model.hop) for clip in (line.audio, *line.voices)]
        return len(model.prompt(line.text, frames[1:])) + frames[0] + 2


def _check_script(field: str, value: object) -> str:
    """Returns a script that can be read. Raises ValueError."""
    script = check_text(field, value)
    try:
        read_turns(script)
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from None
    return script


def _check_count(values: dict) -> ValueError | None:
    """The error in a line with more voices than speakers."""
    speakers = len({turn.speaker for turn in read_turns(values["text"])})
    given = len(values.get("voices", ()))
    if given <= speakers:
        return None
    return ValueError(f"voices are {given} for {speakers} speakers; leave the others out")
