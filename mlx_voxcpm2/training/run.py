"""A training run from its manifest to its last checkpoint, begun or gone on with."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from ..audio.writing import write_audio
from ..files import numbered_lines
from ..layers.transformer import Joinable
from ..load import Precision, load_model, read_checkpoint
from ..model import VoxCPM2
from ..weights.adapter_files import read_adapter, write_adapter
from ..weights.adapters import add_lora, lora_tensors
from ..weights.hub import find_checkpoint
from .latents import LatentCache
from .manifest import Limits, Line, Problem, read_manifest, summary
from .options import TrainingSettings
from .processes import all_or_none
from .run_folder import RunFolder
from .sequences import Example
from .trainer import Step, Trainer

logger = logging.getLogger("mlx_voxcpm2")

Losses = tuple[float, float] | None
"""Of the velocity and of the stop head."""
Progress = Callable[[Step, Losses], None]
Report = Callable[[str, Problem], None]


@dataclass(frozen=True)
class Lines:
    """Of the manifests, all of them good."""

    training: list[Line]
    validation: list[Line]


def train(
    settings: TrainingSettings,
    output: str | Path,
    progress: Progress | None = None,
    report: Report | None = None,
) -> Path | None:
    """Trains until `max_steps`, and returns the folder of the last checkpoint in `output`, if this
    process wrote it.

    With LoRA a checkpoint is an adapter, else a model; both load here and in the official package.
    If `output` holds a run with the same settings, it goes on behind its last checkpoint, with the
    losses of a run that was never stopped. Under `mlx.launch` all processes share each batch; the
    first one writes.

    progress: called after each step, with the validation's losses where there was one. report: see
    `read_lines`.

    Raises ValueError, FileNotFoundError or OSError, with one line, before anything is learnt for
    settings or data that can't be used, and later if there is no room for a checkpoint. If another
    process can't go on, it is that one that says so, and this one raises SystemExit.
    """
    with ExitStack() as stack:
        return _train(settings, output, progress, report, stack)


def _train(
    settings: TrainingSettings,
    output: str | Path,
    progress: Progress | None,
    report: Report | None,
    stack: ExitStack,
) -> Path | None:
    """See `train`. stack: closes the run's folder, so that another run can begin there."""
    group = mx.distributed.init()
    run: RunFolder | None = None
    with all_or_none(group):
        _require_libraries(settings)
        for path in filter(None, (settings.train, settings.validation)):
            # Before a model is downloaded for nothing.
            numbered_lines(Path(os.path.expanduser(path)))
        source = find_checkpoint(settings.model, settings.revision)
        lines = read_lines(settings, source, report)
        if group.rank() == 0:
            run = stack.enter_context(closing(RunFolder(output, settings.decisive)))
        model = _load(settings, source, run and run.latest)
        cache = LatentCache(Path(os.path.expanduser(output)) / "latents", model)
        clips = _clips(lines)
        latents = cache.fill(clips[group.rank() :: group.size()])
    with all_or_none(group):
        latents |= cache.fill(clip for clip in clips if clip not in latents)
        training = _examples(lines.training, model, latents)
        validation = _examples(lines.validation, model, latents)
        trainer = Trainer(model, training, settings.options, group)
        if run is not None:
            run.resume(trainer)
    trainer.follow_first()
    for step, losses in _steps(trainer, validation, progress):
        if run is not None:
            _write(run, settings, source, trainer, lines, step, losses)
    return run and run.latest


def _steps(
    trainer: Trainer, validation: list[Example], progress: Progress | None
) -> Iterator[tuple[Step, Losses]]:
    """Those that are left, each with the validation's losses where it is time for them."""
    while trainer.step < trainer.options.max_steps:
        step, losses = trainer.advance(), None
        if validation and _is_due(trainer, trainer.options.valid_interval):
            losses = trainer.validate(validation)
        if progress is not None:
            progress(step, losses)
        yield step, losses


def _is_due(trainer: Trainer, interval: int) -> bool:
    last = trainer.step == trainer.options.max_steps
    return interval > 0 and (trainer.step % interval == 0 or last)


def _write(
    run: RunFolder,
    settings: TrainingSettings,
    source: Path,
    trainer: Trainer,
    lines: Lines,
    step: Step,
    losses: Losses,
) -> None:
    """What is due after a step."""
    options, model = settings.options, trainer.model

    def write_weights(folder: Path) -> None:
        if settings.lora is not None:
            write_adapter(folder, lora_tensors(model), settings.lora, settings.model)
        else:
            write_model(folder, model, source)

    if losses or _is_due(trainer, options.log_interval):
        run.log(step, losses)
    if _is_due(trainer, options.save_interval):
        run.save(trainer, write_weights, options.keep_checkpoints)
        run.plot()
    if _is_due(trainer, options.sample_interval):
        texts = options.sample_texts or [x.text for x in lines.validation or lines.training][:2]
        _speak(model, texts, options.seed, run.path / "samples" / f"step_{step.number:07d}")


def _require_libraries(settings: TrainingSettings) -> None:
    """Now rather than after an hour of learning."""
    needed = {"matplotlib": True, "mlx_lm": settings.lora is not None}
    missing = [name for name, is_needed in needed.items() if is_needed and not find_spec(name)]
    if missing:
        raise ValueError(
            f"training needs {missing[0].replace('_', '-')}, which is not installed; install "
            "'mlx-voxcpm2[train]'"
        )


def read_lines(settings: TrainingSettings, source: Path, report: Report | None = None) -> Lines:
    """Reads and checks the manifests; every clip is read through once.

    source: the model's folder, of which only the tokenizer and the sizes are needed. report: called
    with a manifest's path and each thing that is wrong with it, also what is only doubtful; by
    default the log takes it.

    Raises ValueError, with one line, if a line can't be used, or if there is none to learn from.
    """
    sizes = read_checkpoint(source, Precision(mx.float32)).model
    limits, errors, read = Limits(max_positions=settings.options.longest), [], []
    for path in filter(None, (settings.train, settings.validation)):
        lines, problems = read_manifest(path, limits, sizes)
        for problem in problems:
            (report or _log)(path, problem)
        errors.append(summary(path, lines, problems))
        read.append(lines)
    if any(errors):
        raise ValueError("; ".join(filter(None, errors)))
    learnt, held_out = read[0], read[1] if len(read) > 1 else []
    if settings.validation_split and settings.validation is None:
        order = np.random.default_rng(settings.options.seed).permutation(len(learnt))
        count = max(1, round(settings.validation_split * len(learnt)))
        held_out = [learnt[index] for index in sorted(order[:count])]
        learnt = [learnt[index] for index in sorted(order[count:])]
    if not any(not line.is_prompt or line.ref_audio for line in learnt):
        raise ValueError(
            f"{settings.train}: no line to learn from; give more than what is held out, and leave "
            "is_prompt out where speech is to be learnt"
        )
    return Lines(learnt, held_out)


def _log(path: str, problem: Problem) -> None:
    logger.warning("%s: %s: %s", path, problem.severity, problem)


def _load(settings: TrainingSettings, source: Path, checkpoint: Path | None) -> VoxCPM2:
    """With the checkpoint's weights, if there is one, and only what is trained not frozen."""
    mx.random.seed(settings.options.seed)  # what adapters begin with
    if settings.lora is not None:
        model = load_model(source, settings.options.precision)
        add_lora(model, settings.lora, None if checkpoint is None else read_adapter(checkpoint))
        return model
    model = load_model(checkpoint or source, "float32")
    for module in model.modules():
        if isinstance(module, nn.QuantizedLinear | nn.QuantizedEmbedding):
            raise ValueError(
                f"{source} is quantised, and rounded numbers can't be learnt; train an adapter "
                "(--lora), or take the original, such as openbmb/VoxCPM2"
            )
        if isinstance(module, Joinable):
            module.joined = None  # it would keep the first weights in memory
    model.audio_vae.freeze()
    return model


def _clips(lines: Lines) -> list[Path]:
    every = lines.training + lines.validation
    return sorted({clip for line in every for clip in (line.audio, line.ref_audio) if clip})


def _examples(lines: list[Line], model: VoxCPM2, latents: dict[Path, np.ndarray]) -> list[Example]:
    return [
        Example(
            model.tokenize(line.text),
            latents[line.audio],
            None if line.ref_audio is None else latents[line.ref_audio],
            line.is_prompt,
        )
        for line in lines
    ]


def write_model(folder: Path, model: VoxCPM2, source: Path) -> None:
    """Into a folder that is there: the weights in float32, in the layout of the checkpoint `source`
    that they came from, and its other files. Upstream's config.json stays as it is, so that the
    model speaks in the precision that it had."""
    vae = [path for path in source.glob("audiovae.*") if path.suffix in (".pth", ".safetensors")]
    weights = dict(tree_flatten(model.parameters()))
    if vae:  # upstream's layout, which keeps the AudioVAE apart
        weights = {name: x for name, x in weights.items() if not name.startswith("audio_vae.")}
    for path in [source / "config.json", *vae, *source.glob("tokenizer*.json")]:
        shutil.copyfile(path, folder / path.name)
    metadata = {} if vae else {"format": "mlx"}
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata)


def _speak(model: VoxCPM2, texts: list[str], seed: int, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model.eval()
    for number, text in enumerate(texts, start=1):
        [result] = model.generate(
            text, seed=seed, retry_badcase=False, retry_by_ear=False, max_tokens=500
        )
        write_audio(folder / f"{number:02d}.wav", np.array(result.audio), result.sample_rate)
