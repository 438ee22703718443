"""Weights of a training run: loaded to be trained, and written into a checkpoint's folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map

from ..models.family import Network
from ..weights.adapter_files import read_adapter, write_adapter
from ..weights.adapters import add_lora, lora_tensors
from ..weights.checkpoint import ORIGINAL_DTYPE, original_dtype
from .options import TrainingSettings
from .recipes import recipe_of


def load_trainable(settings: TrainingSettings, source: Path, checkpoint: Path | None) -> Any:
    """The model of the folder `source`, with all weights frozen that are not trained.

    checkpoint: of this run, to be resumed. Raises ValueError if quantised weights are to be
    trained.
    """
    recipe = recipe_of(source)
    mx.random.seed(settings.options.seed)  # of an adapter's initial weights
    if settings.lora is not None:
        model = recipe.load(source, settings.options.dtype)
        add_lora(model, settings.lora, None if checkpoint is None else read_adapter(checkpoint))
        return model
    model = recipe.load(checkpoint or source, "float32")
    for module in model.modules():
        if isinstance(module, nn.QuantizedLinear | nn.QuantizedEmbedding):
            raise ValueError(
                f"{source} is quantised, and rounded numbers can't be learnt; train an adapter "
                f"(--lora), or take the original, such as {model.family.original}"
            )
    model.discard_prepared()  # it would keep the first weights in memory
    recipe.freeze_codec(model)
    # In the layout of updated weights: the slow BLAS sums in another order for another layout, so
    # that the losses of a resumed run would differ in the last digit.
    model.update(tree_map(mx.contiguous, model.trainable_parameters()))
    return model


def write_weights(folder: Path, model: Network, settings: TrainingSettings, source: Path) -> None:
    """Writes the adapter, or else the whole model, into an existing folder."""
    if settings.lora is not None:
        write_adapter(folder, lora_tensors(model), settings.lora, settings.model)
    else:
        _write_model(folder, model, source)


def _write_model(folder: Path, model: Network, source: Path) -> None:
    """Writes float32 weights in the layout of the checkpoint `source`, and its other files.

    The model speaks in its original precision: upstream's config.json is copied, and weights in
    MLX's layout, which would be loaded in their own type, name that of the source.
    """
    vae = [path for path in source.glob("audiovae.*") if path.suffix in (".pth", ".safetensors")]
    weights = dict(tree_flatten(model.parameters()))
    if vae:  # upstream's layout, with the AudioVAE in a file of its own
        weights = {name: x for name, x in weights.items() if not name.startswith("audio_vae.")}
    small = {source / name for name in model.family.small_files if (source / name).is_file()}
    for path in [source / "config.json", *vae, *{*source.glob("tokenizer*.json"), *small}]:
        shutil.copyfile(path, folder / path.name)
    metadata = {} if vae else {"format": "mlx", ORIGINAL_DTYPE: original_dtype(source)}
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata)
