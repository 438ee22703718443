"""A training run from its manifest to its last checkpoint, begun or gone on with."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from ..adapter_files import read_adapter, write_adapter
from ..adapters import add_lora, lora_tensors
from ..audio_output import write_audio
from ..hub import find_checkpoint
from ..load import Precision, load_model, read_checkpoint
from ..model import VoxCPM2
from ..models.minicpm import Joinable
from .latents import LatentCache
from .manifest import Limits, Line, Problem, inspect_manifest, summary
from .options import TrainingSettings
from .processes import all_or_none
from .run_folder import RunFolder, latest_checkpoint
from .sequences import Example
from .trainer import Step, Trainer


@dataclass(frozen=True)
class Lines:
    """Of the manifests, all of them good."""

    training: list[Line]
    validation: list[Line]


def train(
    settings: TrainingSettings,
    output: str | Path,
    progress: Callable[[Step, tuple[float, float] | None], None] | None = None,
    report: Callable[[str, Problem], None] | None = None,
) -> Path:
    """Trains until `max_steps`, and returns the folder of the last checkpoint in `output`.

    With LoRA a checkpoint is an adapter, else a model; both load here and in the official package.
    If `output` holds a run with the same settings, it goes on behind its last checkpoint, with the
    losses of a run that was never stopped. Under `mlx.launch` all processes share each batch; the
    first one writes.

    progress: called after each step, with the validation's losses where there was one. report:
    called for each thing that is wrong with a manifest, see `read_lines`.

    Raises ValueError, FileNotFoundError or OSError, with one line, before anything is learnt for
    settings or data that can't be used, and later if there is no room for a checkpoint. If another
    process can't go on, it is that one that says so, and this one raises SystemExit.
    """
    group, options = mx.distributed.init(), settings.options
    leads, run = group.rank() == 0, None
    with all_or_none(group):
        _require_libraries(settings)
        source = find_checkpoint(settings.model, settings.revision)
        lines = read_lines(settings, source, report)
        if leads:
            run = RunFolder(output, settings.decisive)
        model = _load(settings, source, run.latest if leads else None)
        cache = LatentCache(Path(os.path.expanduser(output)) / "latents", model)
        clips = _clips(lines)
        latents = cache.fill(clips[group.rank() :: group.size()])
    with all_or_none(group):
        latents |= cache.fill(clip for clip in clips if clip not in latents)
        training = _examples(lines.training, model, latents)
        validation = _examples(lines.validation, model, latents)
        trainer = Trainer(model, training, options, group)
        if leads:
            run.resume(trainer)
    trainer.follow_first()
    texts = options.sample_texts or [x.text for x in lines.validation or lines.training][:2]

    def write_weights(folder: Path) -> None:
        if settings.lora is not None:
            write_adapter(folder, lora_tensors(model), settings.lora, settings.model)
        else:
            write_model(folder, model, source)

    while trainer.step < options.max_steps:
        began = time.perf_counter()
        step, losses = trainer.advance(), None
        spent = time.perf_counter() - began

        def due(interval: int, number: int = step.number) -> bool:
            return interval > 0 and (number % interval == 0 or number == options.max_steps)

        if validation and due(options.valid_interval):
            losses = trainer.validate(validation)
        if progress is not None:
            progress(step, losses)
        if not leads:
            continue
        if losses or due(options.log_interval):
            run.log(step, losses, spent)
        if due(options.save_interval):
            run.save(trainer, write_weights, options.keep_checkpoints)
            run.plot()
        if due(options.sample_interval):
            _speak(model, texts, options.seed, run.path / "samples" / f"step_{step.number:07d}")
    return latest_checkpoint(output)


def _require_libraries(settings: TrainingSettings) -> None:
    """Now rather than after an hour of learning."""
    needed = {"matplotlib": True, "mlx_lm": settings.lora is not None}
    missing = [name for name, is_needed in needed.items() if is_needed and not find_spec(name)]
    if missing:
        raise ValueError(
            f"training needs {missing[0].replace('_', '-')}, which is not installed; install "
            "'mlx-voxcpm2[train]'"
        )


def read_lines(
    settings: TrainingSettings,
    source: Path,
    report: Callable[[str, Problem], None] | None = None,
) -> Lines:
    """Reads and checks the manifests; every clip is read through once.

    source: the model's folder, of which only the tokenizer and the sizes are needed. report: called
    with a manifest's path and each thing that is wrong with it, also what is only doubtful.

    Raises ValueError, with one line, if a line can't be used, or if there is none to learn from.
    """
    sizes = read_checkpoint(source, Precision(mx.float32)).model
    limits, errors, read = Limits(max_positions=settings.options.longest), [], []
    for path in filter(None, (settings.train, settings.validation)):
        lines, problems = inspect_manifest(path, limits, sizes)
        for problem in problems if report is not None else ():
            report(path, problem)
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
    """The model's weights, float32, into a folder that is there, with the small files and the
    layout of the checkpoint `source` that it came from."""
    vae = [path for path in source.glob("audiovae.*") if path.suffix in (".pth", ".safetensors")]
    weights = dict(tree_flatten(model.parameters()))
    if vae:  # upstream's layout, which keeps the AudioVAE apart
        weights = {name: x for name, x in weights.items() if not name.startswith("audio_vae.")}
    for path in [*vae, *source.glob("tokenizer*.json")]:
        shutil.copy(path, folder / path.name)
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    config["dtype"] = "float32"
    (folder / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    metadata = {} if vae else {"format": "mlx"}
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata)


def _speak(model: VoxCPM2, texts: list[str], seed: int, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model.eval()
    for number, text in enumerate(texts, start=1):
        [result] = model.generate(text, seed=seed, retry_badcase=False, max_tokens=500)
        write_audio(folder / f"{number:02d}.wav", np.array(result.audio), result.sample_rate)
