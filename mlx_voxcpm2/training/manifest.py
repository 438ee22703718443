"""Upstream's manifest of clips to learn from: a JSON object per line, read and checked.

`audio` and `text` are needed, `ref_audio` and `is_prompt` optional. `duration` and `dataset_id`,
which upstream's trainer takes too, have no use here: lengths are measured, and there is one task.
Upstream: training/data.py, training/validate.py.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..audio.reading import read_audio
from ..errors import one_line
from ..files import numbered_lines
from ..models.voxcpm2.config import AudioVAEConfig

if TYPE_CHECKING:
    from ..model import VoxCPM2

logger = logging.getLogger("mlx_voxcpm2")

FIELDS = ("audio", "text", "ref_audio", "is_prompt", "duration", "ref_duration", "dataset_id")

SILENCE = 1e-4
"""A clip whose samples all stay below this (-80 dBFS, three steps of 16 bits) holds no speech."""


@dataclass(frozen=True)
class Line:
    """What one line asks to learn; its files hold audio."""

    number: int
    """In the file, from 1."""
    audio: Path
    text: str
    ref_audio: Path | None = None
    is_prompt: bool = False
    """Whether the audio is only heard, not learnt."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with a line: an error makes it unusable, a warning only doubtful."""

    number: int
    """Of the line, from 1; 0 for the whole manifest."""
    message: str
    severity: Literal["error", "warning"]

    def __str__(self) -> str:
        return f"line {self.number}: {self.message}" if self.number else self.message


@dataclass(frozen=True)
class Limits:
    """How long a clip and a line should be."""

    min_seconds: float = 0.3
    """A shorter clip is a warning, as upstream."""
    max_seconds: float = 30.0
    """A longer clip is a warning, as upstream."""
    max_positions: int | None = None
    """Of a line's text, audio and marks together; more is an error (upstream drops the line).

    Counted only where a model is given, whose context is a limit in any case.
    """

    def __post_init__(self) -> None:
        if not 0 <= self.min_seconds < self.max_seconds:
            raise ValueError(
                f"min_seconds is {self.min_seconds} and max_seconds {self.max_seconds}; the first "
                "must be smaller, and not negative"
            )
        if self.max_positions is not None and self.max_positions < 1:
            raise ValueError(f"max_positions is {self.max_positions}; it must be positive")


def read_manifest(
    path: str | os.PathLike, limits: Limits | None = None, model: VoxCPM2 | None = None
) -> tuple[list[Line], list[Problem]]:
    """The good lines, and everything that is wrong with the others or only doubtful, in order.

    Each clip is read through once. A relative path starts from the manifest's folder or, where
    nothing is there, from the working directory. model: whose tokens and patches
    `limits.max_positions` counts.

    Errors: not UTF-8 or no JSON object; a field that is missing, empty or of a wrong type; audio
    that is not there, cannot be read, is not finite or is silent; more positions than the limit.
    Warnings: clips of an unusual length; lines that are there twice; a reference that is the clip
    itself; fields that have no use.

    Raises FileNotFoundError, ValueError or another OSError for what is no file that can be read.
    """
    from tqdm import tqdm

    path = Path(os.path.expanduser(path))
    inspection = _Inspection(path.parent, limits or Limits(), model)
    numbered = list(numbered_lines(path))
    for number, line in tqdm(
        numbered, desc="checking clips", unit="clip", disable=None, file=sys.stderr, leave=False
    ):
        inspection.take(number, line)
    inspection.finish()
    return inspection.lines, inspection.problems


def summary(path: str | os.PathLike, lines: list[Line], problems: list[Problem]) -> str | None:
    """The first error, and how many lines have one; None if there is none."""
    errors = [problem for problem in problems if problem.severity == "error"]
    if not errors:
        return None
    bad = len({error.number for error in errors})
    taken = len(lines) + bad
    count = f" ({bad} of {taken} lines cannot be used)" if errors[0].number else ""
    return f"{path}: {errors[0]}{count}"


def _entry(data: bytes) -> dict:
    """A line of the file -> its JSON object."""
    try:
        entry = json.loads(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text; save the manifest as UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON ({one_line(error)}); write one object per line") from None
    if not isinstance(entry, dict):
        raise ValueError(f"JSON of type {type(entry).__name__}; write one object per line")
    return entry


def _text(field: str, value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{field} is of type {type(value).__name__}; it must be a string")
    if not value.strip():
        raise ValueError(f"{field} is empty; it must say something")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{field} holds half of a surrogate pair; write it as UTF-8") from None
    return value


def _truth(field: str, value: object) -> bool:
    if value not in (False, True):
        raise ValueError(f"{field} is {value!r}; it must be true or false")
    return bool(value)


def _more(found: list, said: str) -> str:
    return f" ({said} {len(found) - 1} more lines)" if len(found) > 1 else ""


class _Inspection:
    """Takes line after line; knows the good ones and what is wrong with the others."""

    def __init__(self, folder: Path, limits: Limits, model: VoxCPM2 | None):
        self.taken = 0
        self.lines: list[Line] = []
        self.problems: list[Problem] = []
        self._folder, self._limits, self._model = folder, limits, model
        self._rate, self._most = AudioVAEConfig.sample_rate, 0
        if model is not None:
            self._rate = model.config.audio_vae_config.sample_rate
            context = model.config.context_length
            self._most = min(limits.max_positions or context, context)
        self._samples: dict[Path, int | str] = {}  # at that rate; or why there are none
        self._numbers: dict[tuple, int] = {}  # of the first line that says this
        self._unused: dict[str, list[int]] = {}
        self._repeated: list[tuple[int, int]] = []  # with the first that says the same

    def take(self, number: int, data: bytes) -> None:
        """One line of the file, not blank."""
        self.taken += 1
        faults, values = [], {}
        try:
            entry = _entry(data)
        except ValueError as error:
            self._report(number, "error", error)
            return
        for field, read in (
            ("audio", self._clip), ("text", _text), ("ref_audio", self._clip),
            ("is_prompt", _truth),
        ):  # fmt: skip
            try:
                if (value := entry.get(field)) is not None:
                    values[field] = read(field, value)
                elif field in ("audio", "text"):
                    raise ValueError(f"{field} is missing; every line needs audio and text")
            except ValueError as error:
                faults.append(error)
        for fault in faults:
            self._report(number, "error", fault)
        for field in entry.keys() - set(FIELDS):
            self._unused.setdefault(field, []).append(number)
        if not faults:
            self._admit(Line(number, **values))

    def finish(self) -> None:
        """What only the whole manifest shows."""
        if not self.taken:
            self._report(0, "error", "there is nothing in it; write one JSON object per clip")
        for field, numbers in sorted(self._unused.items()):
            more = _more(numbers, "and on")
            message = f"{field!r} has no use{more}; the fields are {', '.join(FIELDS)}"
            self._report(numbers[0], "warning", message)
        if self._repeated:
            number, first = self._repeated[0]
            more = _more(self._repeated, "and there are")
            message = f"the same as line {first}{more}; leave one out, unless it is to count more"
            self._report(number, "warning", message)
        self.problems.sort(key=lambda problem: problem.number)

    def _report(self, number: int, severity: str, message: object) -> None:
        self.problems.append(Problem(number, str(message), severity))

    def _clip(self, field: str, value: object) -> Path:
        """The file that a field names, once it is known to hold sound."""
        if isinstance(value, dict):  # as the `datasets` library writes it
            value = value.get("path")
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{field} is no path; give that of an audio file")
        path = self._folder / os.path.expanduser(value)
        if not os.path.exists(path) and os.path.exists(value):
            path = Path(value)
        if path not in self._samples:
            self._samples[path] = self._measure(path, repr(value))
        if isinstance(fault := self._samples[path], str):
            raise ValueError(f"{field} {fault}")
        return path

    def _measure(self, path: Path, shown: str) -> int | str:
        """Its samples at the model's rate, or what is wrong with it."""
        try:
            samples = read_audio(path, self._rate, shown)
        except (ValueError, OSError) as error:
            return str(error)
        if np.abs(samples).max() < SILENCE:
            return f"{shown}: there is only silence in it; give a clip of speech"
        return len(samples)

    def _admit(self, line: Line) -> None:
        """A line whose fields are good: is it good as a whole?"""
        if (positions := self._positions(line)) > self._most:
            self._report(
                line.number, "error",
                f"text and audio take {positions} positions, {positions - self._most} more than "
                f"the {self._most} that there is room for; cut the clip, or allow more",
            )  # fmt: skip
            return
        self.lines.append(line)
        self._check_length(line.number, "audio", line.audio)
        if line.ref_audio is not None:
            self._check_length(line.number, "ref_audio", line.ref_audio)
        if line.ref_audio == line.audio:
            message = "ref_audio is the clip itself, which would be copied; give another clip"
            self._report(line.number, "warning", message)
        first = self._numbers.setdefault((line.audio, line.text, line.ref_audio), line.number)
        if first != line.number:
            self._repeated.append((line.number, first))

    def _positions(self, line: Line) -> int:
        """Of [start, reference, end]?, text, start, audio, end; 0 if there is no model to ask."""
        if self._model is None:
            return 0
        config = self._model.config
        patch = config.patch_size * config.audio_vae_config.encoder_hop
        positions = len(self._model.tokenize(line.text)) + 2
        positions += math.ceil(self._samples[line.audio] / patch)
        if line.ref_audio is not None:
            positions += math.ceil(self._samples[line.ref_audio] / patch) + 2
        return positions

    def _check_length(self, number: int, field: str, path: Path) -> None:
        seconds, limits = self._samples[path] / self._rate, self._limits
        if seconds < limits.min_seconds:
            fault = f"less than {limits.min_seconds:g} s; join it with a neighbour, or leave it out"
        elif seconds > limits.max_seconds:
            fault = f"more than {limits.max_seconds:g} s; cut it between sentences"
        else:
            return
        self._report(number, "warning", f"{field} lasts {seconds:.4g} s, {fault}")
