"""A training run from its manifest to its last checkpoint, begun or gone on with."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from ..adapter_files import LoRASettings, read_adapter, save_adapter
from ..adapters import add_lora, lora_tensors
from ..audio_output import write_audio
from ..hub import find_checkpoint
from ..load import load_model
from ..model import VoxCPM2
from .latents import LatentCache
from .manifest import Limits, Line, read_manifest
from .options import TrainingOptions
from .run_folder import RunFolder
from .sequences import Example
from .trainer import Step, Trainer

logger = logging.getLogger("mlx_voxcpm2")


@dataclass(frozen=True)
class TrainingSettings:
    """All that decides what a run does."""

    model: str
    """A folder or hub repository."""
    train: str
    """The manifest."""
    validation: str | None = None
    """Another manifest; else `validation_split` of the first one's lines, drawn by the seed."""
    validation_split: float = 0.0
    lora: LoRASettings | None = field(default_factory=LoRASettings)
    """None trains the model itself, all but the AudioVAE."""
    options: TrainingOptions = field(default_factory=TrainingOptions)
    revision: str | None = None

    def __post_init__(self):
        if not 0 <= self.validation_split <= 0.5:
            raise ValueError(
                f"validation_split is {self.validation_split!r}; it must be from 0 to 0.5"
            )


def train(
    settings: TrainingSettings,
    output: str | Path,
    progress: Callable[[Step, TrainingOptions], None] | None = None,
) -> Path:
    """Trains until `max_steps`, and returns the folder of the last checkpoint in `output`.

    With LoRA a checkpoint is an adapter, else a model; both load here and in the official package.
    If `output` holds a run with the same settings, it goes on behind its last checkpoint, with the
    losses of a run that was never stopped. Under `mlx.launch` all processes share each batch.

    progress: called after each step. Raises ValueError, FileNotFoundError or OSError, with one
    line, before anything is learnt, for settings or data that can't be used.
    """
    group, options = mx.distributed.init(), settings.options
    leads = group.rank() == 0
    source = find_checkpoint(settings.model, settings.revision)
    run = RunFolder(output, json.loads(json.dumps(asdict(settings))), leads)
    model = _load(settings, source, run.latest)
    training, validation = _examples(settings, model, run, group)
    trainer = Trainer(model, training, options, group)
    if run.latest:
        run.resume(trainer, leads)

    def write_weights(folder: Path) -> None:
        if settings.lora is not None:
            save_adapter(folder, lora_tensors(model), settings.lora, settings.model)
        else:
            save_model(folder, model, source)

    while trainer.step < options.max_steps:
        began = time.perf_counter()
        step = trainer.advance()
        spent = time.perf_counter() - began
        last = step.number == options.max_steps
        valid = None
        if validation and (last or step.number % options.valid_interval == 0):
            valid = trainer.validate(validation)
        if progress is not None:
            progress(step, options)
        if not leads:
            continue
        if last or valid or step.number % options.log_interval == 0:
            run.log(step, valid, spent)
        if options.sample_interval and (last or step.number % options.sample_interval == 0):
            _speak(model, options, run.path / "samples" / f"step_{step.number:07d}")
        if last or step.number % options.save_interval == 0:
            run.save(trainer, write_weights, options.keep_checkpoints)
            run.plot()
    return run.latest


def _load(settings: TrainingSettings, source: Path, checkpoint: Path | None) -> VoxCPM2:
    """With the checkpoint's weights, if there is one, and only what is trained not frozen."""
    if settings.lora is None:
        model = load_model(checkpoint or source, "float32")
        model.audio_vae.freeze()
        return model
    model = load_model(source, settings.options.precision)
    add_lora(model, settings.lora, None if checkpoint is None else read_adapter(checkpoint))
    return model


def _examples(
    settings: TrainingSettings, model: VoxCPM2, run: RunFolder, group: mx.distributed.Group
) -> tuple[list[Example], list[Example]]:
    """To learn from, and to validate with. Each process encodes its share of the clips."""
    limits = Limits(max_positions=settings.options.longest)
    lines = read_manifest(settings.train, limits, model)
    held_out: list[Line] = []
    if settings.validation is not None:
        held_out = read_manifest(settings.validation, limits, model)
    elif settings.validation_split:
        order = np.random.default_rng(settings.options.seed).permutation(len(lines))
        count = round(settings.validation_split * len(lines))
        held_out = [lines[index] for index in sorted(order[:count])]
        lines = [lines[index] for index in sorted(order[count:])]
    if not any(not line.is_prompt or line.ref_audio for line in lines):
        raise ValueError(
            f"{settings.train}: no line to learn from; leave is_prompt out where speech is learnt"
        )
    cache = LatentCache(run.path / "latents", model)
    clips = {clip for line in lines + held_out for clip in (line.audio, line.ref_audio) if clip}
    cache.fill(sorted(clips)[group.rank() :: group.size()])
    mx.eval(mx.distributed.all_sum(mx.zeros(1), group=group))
    latents = {clip: np.array(cache(clip)) for clip in clips}
    return tuple(
        [
            Example(
                model.tokenize(line.text), latents[line.audio], latents.get(line.ref_audio),
                line.is_prompt,
            )
            for line in part
        ]
        for part in (lines, held_out)
    )  # fmt: skip


def save_model(folder: Path, model: VoxCPM2, source: Path) -> None:
    """The model's weights with the other files of the checkpoint that it came from."""
    folder.mkdir()
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


def _speak(model: VoxCPM2, options: TrainingOptions, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model.eval()
    for number, text in enumerate(options.sample_texts, start=1):
        [result] = model.generate(text, seed=options.seed, retry_badcase=False, max_tokens=500)
        write_audio(folder / f"{number:02d}.wav", np.array(result.audio), result.sample_rate)
