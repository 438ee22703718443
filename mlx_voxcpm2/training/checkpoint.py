"""Weights of a training run: loaded to be trained, and written into a checkpoint's folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map

from ..load import load_model
from ..model import VoxCPM2
from ..weights.adapter_files import read_adapter, write_adapter
from ..weights.adapters import add_lora, lora_tensors
from .options import TrainingSettings


def load_trainable(settings: TrainingSettings, source: Path, checkpoint: Path | None) -> VoxCPM2:
    """The model of the folder `source`, with all weights frozen that are not trained.

    checkpoint: of this run, to be resumed. Raises ValueError if quantised weights are to be
    trained.
    """
    mx.random.seed(settings.options.seed)  # of an adapter's initial weights
    if settings.lora is not None:
        model = load_model(source, settings.options.dtype)
        add_lora(model, settings.lora, None if checkpoint is None else read_adapter(checkpoint))
        return model
    model = load_model(checkpoint or source, "float32")
    for module in model.modules():
        if isinstance(module, nn.QuantizedLinear | nn.QuantizedEmbedding):
            raise ValueError(
                f"{source} is quantised, and rounded numbers can't be learnt; train an adapter "
                f"(--lora), or take the original, such as {model.family.original}"
            )
    model.discard_prepared()  # it would keep the first weights in memory
    model.audio_vae.freeze()
    # In the layout of updated weights: the slow BLAS sums in another order for another layout, so
    # that the losses of a resumed run would differ in the last digit.
    model.update(tree_map(mx.contiguous, model.trainable_parameters()))
    return model


def write_weights(folder: Path, model: VoxCPM2, settings: TrainingSettings, source: Path) -> None:
    """Writes the adapter, or else the whole model, into an existing folder."""
    if settings.lora is not None:
        write_adapter(folder, lora_tensors(model), settings.lora, settings.model)
    else:
        _write_model(folder, model, source)


def _write_model(folder: Path, model: VoxCPM2, source: Path) -> None:
    """Writes float32 weights in the layout of the checkpoint `source`, and its other files.

    Upstream's config.json is copied, so that the model speaks in its original precision.
    """
    vae = [path for path in source.glob("audiovae.*") if path.suffix in (".pth", ".safetensors")]
    weights = dict(tree_flatten(model.parameters()))
    if vae:  # upstream's layout, with the AudioVAE in a file of its own
        weights = {name: x for name, x in weights.items() if not name.startswith("audio_vae.")}
    for path in [source / "config.json", *vae, *source.glob("tokenizer*.json")]:
        shutil.copyfile(path, folder / path.name)
    metadata = {} if vae else {"format": "mlx"}
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata)
