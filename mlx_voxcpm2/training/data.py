"""Data of a training run: manifests read and checked, problems reported."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .manifest import Limits, read_manifest, summary
from .manifest_line import Line, Problem
from .options import TrainingSettings
from .recipes import find_recipe, recipe_of

logger = logging.getLogger("mlx_voxcpm2")

Report = Callable[[str, Problem], None]
"""Called with a manifest's path and each problem in it."""


@dataclass(frozen=True)
class Lines:
    """Usable lines of the manifests."""

    training: list[Line]
    validation: list[Line]

    def __str__(self) -> str:
        """Counts, such as "90 lines to learn, 10 for validation, 104 clips"."""
        counts = f"{len(self.training)} lines to learn, {len(self.validation)} for validation"
        return f"{counts}, {len(self.clips)} clips"

    @property
    def clips(self) -> list[Path]:
        """Clips of all lines, each once."""
        lines = self.training + self.validation
        return sorted({clip for line in lines for clip in line.clips})


def read_lines(
    settings: TrainingSettings, source: Path | None, report: Report | None = None
) -> Lines:
    """Reads and checks the manifests; every clip is read once.

    source: the model's folder, of which only the tokenizer and sizes are used; without it the
    sequence lengths of the lines are not checked. report: called with each
    problem, warnings included; by default they are logged.

    Raises ValueError, with one line, if a line has an error, or if there is no target to learn.
    """
    recipe = find_recipe(settings.model, settings.revision) if source is None else recipe_of(source)
    model = source and recipe.read_sizes(source)
    limits, errors, found = Limits(max_positions=settings.options.longest), [], []
    for path in filter(None, (settings.train, settings.validation)):
        lines, problems = read_manifest(path, limits, model, recipe.inspection)
        for problem in problems:
            (report or _log)(path, problem)
        errors.append(summary(path, lines, problems))
        found.append(lines)
    if any(errors):
        raise ValueError("; ".join(filter(None, errors)))
    training, validation = found[0], found[1] if len(found) > 1 else []
    if settings.validation_split and settings.validation is None:
        order = np.random.default_rng(settings.options.seed).permutation(len(training))
        count = max(1, round(settings.validation_split * len(training)))
        validation = [training[index] for index in sorted(order[:count])]
        training = [training[index] for index in sorted(order[count:])]
    if not any(not line.is_prompt or line.ref_audio for line in training):
        raise ValueError(
            f"{settings.train}: no line to learn from; give more than what is held out, and leave "
            "is_prompt out where speech is to be learnt"
        )
    return Lines(training, validation)


def _log(path: str, problem: Problem) -> None:
    logger.warning("%s: %s: %s", path, problem.severity, problem)
