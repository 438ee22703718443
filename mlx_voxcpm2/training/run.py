"""A training run, started or resumed, from its manifest to its last checkpoint."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from ..activity import activity
from ..audio.writing import write_audio
from ..documents import numbered_lines
from ..layers.compiled import FUSION
from ..models.family import Network
from ..text.spoken import has_words
from ..weights.fingerprint import fingerprint
from ..weights.hub import find_checkpoint
from .checkpoint import load_trainable, write_weights
from .data import Lines, Report, read_lines
from .manifest_line import Line
from .options import TrainingOptions, TrainingSettings
from .processes import all_or_none
from .recipe import Example, Recipe
from .recipes import find_recipe, recipe_of
from .run_folder import RunFolder, check_run_folder
from .trainer import Step, Trainer

logger = logging.getLogger("mlx_voxcpm2")

Losses = dict[str, float] | None
"""Validation losses by name, if the step was validated."""
WORK_BEFORE_KERNELS = 5e9
"""Sequences times parameters from which a run repays its kernels on a CPU."""
Progress = Callable[[Step, Losses], None]


def train(
    settings: TrainingSettings,
    output: str | Path,
    progress: Progress | None = None,
    report: Report | None = None,
    started: Callable[[Lines], None] | None = None,
) -> Path | None:
    """Trains until `max_steps`; returns the folder of the last checkpoint in `output`.

    With LoRA a checkpoint is an adapter, else a model; both load here and in the official package.
    If `output` holds a run with the same settings, it is resumed from its last checkpoint, with
    losses identical to an uninterrupted run. Under `mlx.launch` all processes share each batch;
    the first one writes, and the others return None.

    progress: called after each step, with the validation's losses if there are any. report: see
    `read_lines`. started: called with the data before the first step.

    Raises ValueError, FileNotFoundError or OSError, with one line: before training for settings or
    data that can't be used, later if a checkpoint can't be written. If another process fails, it
    raises the error, and this one SystemExit.
    """
    with ExitStack() as stack:
        run = _prepare(settings, output, report, stack)
        if started is not None:
            started(run.lines)
        if run.folder is not None and run.folder.latest is not None:
            _write_rest(run, run.folder)
        for step, losses in _steps(run, progress):
            if run.folder is not None:
                _write(run, run.folder, step, losses)
        return run.folder and run.folder.latest


@dataclass(frozen=True)
class _Run:
    """A run that is ready to train."""

    settings: TrainingSettings
    source: Path
    """Folder of the model's checkpoint."""
    lines: Lines
    validation: list[Example]
    recipe: Recipe
    model: Any
    trainer: Trainer
    folder: RunFolder | None
    """Folder to write, or None in all processes but the first."""


def _prepare(
    settings: TrainingSettings, output: str | Path, report: Report | None, stack: ExitStack
) -> _Run:
    """Checks the settings and data, loads the model, and resumes a run. See `train`.

    stack: closes the run's folder, so that another run can start there.
    """
    group = mx.distributed.init()
    folder: RunFolder | None = None
    with all_or_none(group):
        _require_matplotlib()
        if group.rank() == 0:
            check_run_folder(output)
        for path in filter(None, (settings.train, settings.validation)):
            # Before a model is downloaded in vain.
            numbered_lines(Path(os.path.expanduser(path)))
        expected = find_recipe(settings.model, settings.revision)
        source = find_checkpoint(settings.model, settings.revision)
        recipe = recipe_of(source)
        if recipe.family is not expected.family:
            raise ValueError(
                f"{settings.model} is {recipe.family.title}, as its files say; run the same "
                "command again, now that they are here"
            )
        recipe.check(settings.options)
        lines = read_lines(settings, source, report)
        if group.rank() == 0:
            weights = settings.options.lambdas.of(recipe.losses)
            key = settings.resume_key | {"weights": fingerprint(source), "lambdas": weights}
            folder = stack.enter_context(closing(RunFolder(output, key)))
        model = load_trainable(settings, source, folder and folder.latest)
        FUSION.is_on = FUSION.is_on or _repays_kernels(model, settings.options)
        cache = recipe.cache(Path(os.path.expanduser(output)) / "latents", model)
        latents = cache.fill(lines.clips[group.rank() :: group.size()])
    with all_or_none(group):
        latents |= cache.fill(clip for clip in lines.clips if clip not in latents)
        training = recipe.examples(lines.training, model, latents)
        validation = recipe.examples(lines.validation, model, latents)
        trainer = Trainer(model, training, settings.options, group, recipe)
        if folder is not None:
            folder.resume(trainer)
    trainer.follow_first()
    return _Run(settings, source, lines, validation, recipe, model, trainer, folder)


def _repays_kernels(model: Network, options: TrainingOptions) -> bool:
    """Whether the run is long enough to compile a CPU's kernels for it.

    True where kernels change the last digits: a run that is resumed may be longer than it was.
    """
    if not FUSION.is_exact:
        return True
    sequences = options.max_steps * options.grad_accum_steps * options.batch_size
    parameters = sum(value.size for _, value in tree_flatten(model.parameters()))
    return sequences * parameters >= WORK_BEFORE_KERNELS


def _require_matplotlib() -> None:
    """Raises ValueError now rather than at the first checkpoint."""
    if find_spec("matplotlib") is None:
        raise ValueError(
            "training needs matplotlib, which is not installed; install 'mlx-voxcpm2[train]'"
        )


def _steps(run: _Run, progress: Progress | None) -> Iterator[tuple[Step, Losses]]:
    """The remaining steps, each with the validation's losses if it is due."""
    trainer = run.trainer
    doing = "computing a step"
    if not FUSION.is_postponed():
        doing += " (kernels are compiled at the first)"
    while trainer.step < trainer.options.max_steps:
        with activity(doing):
            step, losses = trainer.advance(), None
        if run.validation and _is_due(trainer, trainer.options.valid_interval):
            losses = trainer.validate(run.validation)
        if progress is not None:
            progress(step, losses)
        yield step, losses


def _is_due(trainer: Trainer, interval: int) -> bool:
    is_last = trainer.step == trainer.options.max_steps
    return interval > 0 and (trainer.step % interval == 0 or is_last)


def _write(run: _Run, folder: RunFolder, step: Step, losses: Losses) -> None:
    """Writes the log, checkpoint and samples that are due after a step."""
    trainer, settings, options = run.trainer, run.settings, run.settings.options

    def write(checkpoint: Path) -> None:
        write_weights(checkpoint, run.model, settings, run.source)

    folder.log(step, losses)
    if _is_due(trainer, options.save_interval):
        folder.save(trainer, write, options.keep_checkpoints)
        folder.plot()
    _write_samples(run, folder)


def _write_rest(run: _Run, folder: RunFolder) -> None:
    """Writes what comes after a checkpoint, if a kill came before that."""
    folder.prune(run.settings.options.keep_checkpoints)
    if run.trainer.step == run.settings.options.max_steps:
        folder.plot()
    _write_samples(run, folder)


def _write_samples(run: _Run, folder: RunFolder) -> None:
    """Writes the samples that are due after a step and are not there yet."""
    options, step = run.settings.options, run.trainer.step
    if not _is_due(run.trainer, options.sample_interval):
        return
    samples = folder.path / "samples" / f"step_{step:07d}"
    lines = {
        samples / f"{number:02d}.wav": line
        for number, line in enumerate(_sample_lines(run.lines, options), start=1)
    }
    missing = {file: line for file, line in lines.items() if not file.exists()}
    if missing:
        _speak(run, missing)


def _sample_lines(lines: Lines, options: TrainingOptions) -> list[Line]:
    """Lines to speak: with the texts of the options, else the first two that have words."""
    known = lines.validation or lines.training
    if options.sample_texts:
        return [replace(known[0], text=text, voices=()) for text in options.sample_texts]
    return [line for line in known if has_words(line.text)][:2]


def _speak(run: _Run, lines: Mapping[Path, Line]) -> None:
    """Writes a sample of each line to its file, and warns of those that can't be spoken."""
    model, seed = run.model, run.settings.options.seed
    model.eval()
    model.prepare(mx.eval)
    for file, line in lines.items():
        try:
            result = run.recipe.speak(model, line, seed)
        except ValueError as error:  # no reason to lose a run
            logger.warning("no sample %s/%s: %s", file.parent.name, file.name, error)
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        write_audio(file, np.array(result.audio), result.sample_rate)
