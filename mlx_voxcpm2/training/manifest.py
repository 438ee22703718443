"""Manifest of a data set, in upstream's format: one JSON object per line, read and checked.

`audio` and `text` are required, `ref_audio` and `is_prompt` optional. `duration` and `dataset_id`
of upstream's format are not used: lengths are measured, and there is one task.
Upstream: training/data.py, training/validate.py.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..audio.reading import read_audio
from ..documents import numbered_lines
from ..models.voxcpm2.config import AudioVAEConfig
from ..speech.prompt import Prompt
from .manifest_line import (
    FIELDS,
    Limits,
    Line,
    Problem,
    Severity,
    check_flag,
    check_path,
    check_text,
    parse_object,
)

if TYPE_CHECKING:
    from ..model import VoxCPM2

SILENCE = 1e-4
"""Peak amplitude (-80 dBFS, three steps of 16 bits) below which a clip counts as silent."""


def read_manifest(
    path: str | os.PathLike,
    limits: Limits | None = None,
    model: Any = None,
    kind: type[Inspection] | None = None,
) -> tuple[list[Line], list[Problem]]:
    """The usable lines, and all errors and warnings by line number.

    Each clip is read once. A relative path is relative to the manifest's folder or, if there is no
    such file, to the working directory. model: for the sequence lengths of
    `limits.max_positions`. kind: of the model's family, by default VoxCPM2's.

    Errors: a line that is not UTF-8 or no JSON object; a field that is missing, empty or mistyped;
    audio that is missing, unreadable, not finite or silent; too many positions.
    Warnings: clips of an unusual length; duplicate lines; a reference that is the clip itself;
    unknown fields.

    Raises FileNotFoundError, ValueError or another OSError if the file cannot be read.
    """
    from tqdm import tqdm

    path = Path(os.path.expanduser(path))
    inspection = (kind or Inspection)(path.parent, limits or Limits(), model)
    bar = {"desc": "checking clips", "unit": "clip", "disable": None, "leave": False}
    for number, line in tqdm(list(numbered_lines(path)), file=sys.stderr, **bar):
        inspection.add(number, line)
    inspection.finish()
    return inspection.lines, inspection.problems


def summary(path: str | os.PathLike, lines: list[Line], problems: list[Problem]) -> str | None:
    """The first error and the number of lines with errors, in one line; None without errors."""
    errors = [problem for problem in problems if problem.severity == "error"]
    if not errors:
        return None
    bad = len({error.number for error in errors})
    count = f" ({bad} of {len(lines) + bad} lines cannot be used)" if errors[0].number else ""
    return f"{path}: {errors[0]}{count}"


def _more(found: list, words: str) -> str:
    return f" ({words} {len(found) - 1} more lines)" if len(found) > 1 else ""


class Inspection:
    """Collects usable lines and problems, one line of the file after another."""

    fields = FIELDS

    def __init__(self, folder: Path, limits: Limits, model: Any):
        self.lines: list[Line] = []
        self.problems: list[Problem] = []
        self._folder, self._limits, self._model = folder, limits, model
        self._is_empty = True
        self._rate, context = self._sizes(model)
        self._max_positions = min(limits.max_positions or context, context)
        self._samples: dict[Path, int | str] = {}  # number at that rate, or the problem
        self._first: dict[tuple, int] = {}  # line number by content
        self._unknown: dict[str, list[int]] = {}  # line numbers by field
        self._duplicates: list[tuple[int, int]] = []  # line number, number of the first such line

    def _sizes(self, model: VoxCPM2 | None) -> tuple[int, int]:
        """Sample rate of the encoder, and number of positions of the model, 0 without one."""
        if model is None:
            return AudioVAEConfig.sample_rate, 0
        return model.config.audio_vae_config.sample_rate, model.config.context_length

    def add(self, number: int, data: bytes) -> None:
        """Checks one line of the file, which is not blank."""
        self._is_empty = False
        try:
            entry = parse_object(data)
        except ValueError as error:
            self._report(number, "error", error)
            return
        values, errors = self._read_fields(entry)
        for error in errors:
            self._report(number, "error", error)
        for field in entry.keys() - set(self.fields):
            self._unknown.setdefault(field, []).append(number)
        if not errors:
            self._check_line(Line(number, **values))

    def _checks(self) -> dict[str, Callable[[str, Any], Any]]:
        """Functions of a field's name and value that return the value in a `Line`, or raise."""
        return {
            "audio": self._check_clip,
            "text": check_text,
            "ref_audio": self._check_clip,
            "is_prompt": check_flag,
        }

    def _read_fields(self, entry: dict) -> tuple[dict, list[ValueError]]:
        """Values of the fields of a `Line`, and the errors in them."""
        values, errors = {}, []
        for field, check in self._checks().items():
            try:
                if (value := entry.get(field)) is not None:
                    values[field] = check(field, value)
                elif field in ("audio", "text"):
                    raise ValueError(f"{field} is missing; every line needs audio and text")
            except ValueError as error:
                errors.append(error)
        return values, errors

    def finish(self) -> None:
        """Adds the problems of the whole manifest, and sorts all of them."""
        if self._is_empty:
            self._report(0, "error", "there is nothing in it; write one JSON object per clip")
        for field, numbers in sorted(self._unknown.items()):
            more = _more(numbers, "and on")
            message = f"{field!r} has no use{more}; the fields are {', '.join(self.fields)}"
            self._report(numbers[0], "warning", message)
        if self._duplicates:
            number, first = self._duplicates[0]
            more = _more(self._duplicates, "and there are")
            message = f"the same as line {first}{more}; leave one out, unless it is to count more"
            self._report(number, "warning", message)
        self.problems.sort(key=lambda problem: problem.number)

    def _report(self, number: int, severity: Severity, message: object) -> None:
        self.problems.append(Problem(number, str(message), severity))

    def _check_clip(self, field: str, value: object) -> Path:
        """Returns the path of a clip that holds sound. Raises ValueError."""
        value = check_path(field, value)
        path = self._folder / os.path.expanduser(value)
        if not os.path.exists(path) and os.path.exists(value):
            path = Path(value)
        if path not in self._samples:
            self._samples[path] = self._measure(path, repr(value))
        if isinstance(problem := self._samples[path], str):
            raise ValueError(f"{field} {problem}")
        return path

    def _measure(self, path: Path, shown: str) -> int | str:
        """Number of samples at the model's rate, or the problem with the clip."""
        try:
            samples = read_audio(path, self._rate, shown)
        except (ValueError, OSError) as error:
            return str(error)
        if np.abs(samples).max() < SILENCE:
            return f"{shown}: there is only silence in it; give a clip of speech"
        return len(samples)

    def _check_line(self, line: Line) -> None:
        """Checks a line whose fields are good each by itself."""
        positions, most = self._positions(line), self._max_positions
        if positions > most:
            message = (
                f"text and audio take {positions} positions, {positions - most} more than "
                f"the {most} that there is room for; cut the clip, or allow more"
            )
            self._report(line.number, "error", message)
            return
        self.lines.append(line)
        self._check_length(line.number, "audio", line.audio)
        for field, clip in line.voice_clips:
            self._check_length(line.number, field, clip)
            if clip == line.audio:
                message = f"{field} is the clip itself, which would be copied; give another clip"
                self._report(line.number, "warning", message)
        content = (line.audio, line.text, line.voice_clips)
        first = self._first.setdefault(content, line.number)
        if first != line.number:
            self._duplicates.append((line.number, first))

    def _positions(self, line: Line) -> int:
        """Sequence length of a line, see `Example.positions`; 0 without a model."""
        if self._model is None:
            return 0
        config = self._model.config
        patch = config.patch_size * config.audio_vae_config.encoder_hop
        text = len(self._model.tokenize(line.text))
        speech = math.ceil(self._samples[line.audio] / patch)
        reference = math.ceil(self._samples.get(line.ref_audio, 0) / patch)
        return Prompt.positions(text, reference, speech) + 1

    def _check_length(self, number: int, field: str, path: Path) -> None:
        seconds, limits = self._samples[path] / self._rate, self._limits
        if seconds < limits.min_seconds:
            problem = (
                f"less than {limits.min_seconds:g} s; join it with a neighbour, or leave it out"
            )
        elif seconds > limits.max_seconds:
            problem = f"more than {limits.max_seconds:g} s; cut it between sentences"
        else:
            return
        self._report(number, "warning", f"{field} lasts {seconds:.4g} s, {problem}")
