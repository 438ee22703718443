"""Attach, scale, fuse and detach LoRA adapters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from ..layers import kernels
from ..models.family import Network, Weights
from ..models.voxcpm2.lora import LoRASettings
from .adapter_files import StoredAdapter, check_strength, has_settings, read_adapter
from .lora_layers import (
    Layers,
    fused_weight,
    initial_layers,
    linear_layers,
    loaded_layers,
    match,
    set_factors,
    with_scale,
)

if TYPE_CHECKING:
    from mlx_lm.tuner.lora import LoRALinear


@dataclass
class Adapter:
    """The adapter attached to a model, `VoxCPM2.adapter`."""

    layers: dict[str, LoRALinear]
    """LoRA layers by path. Each holds the layer that it replaces as `linear`."""
    trained_scale: float
    """Factor of B A at strength 1."""
    strength: float = 1.0
    """Factor of the trained scale: 1 is as trained, 0 the base model."""
    source: Path | None = None
    """File of the weights, unless the adapter was made here."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Tensors of the file that the model does not use, by name, and why."""

    @property
    def loaded(self) -> int:
        """Number of tensors in use."""
        return 2 * len(self.layers)


def load_adapter(
    model: Network, path_or_repo: str | Path, strength: float | None = None
) -> Adapter:
    """Reads and attaches an adapter, see `VoxCPM2.load_adapter`."""
    return attach(model, read_adapter(path_or_repo, strength))


def attach(model: Network, stored: StoredAdapter) -> Adapter:
    """Replaces the layers that the adapter changes by LoRA layers, after detaching any other.

    Raises ValueError, and changes nothing, if no tensor fits.
    """
    layers = linear_layers(model)
    if model.adapter is not None:
        layers |= _base_layers(model.adapter)
    factors, skipped = match(layers, stored)
    scale = stored.trained_scale
    made = loaded_layers(layers, factors, scale)
    if model.adapter is not None:
        _replace(model, _base_layers(model.adapter))
    model.adapter = Adapter(made, scale, source=stored.source, skipped=skipped)
    set_strength(model, stored.strength)
    return model.adapter


def set_strength(model: Network, strength: float) -> None:
    """Scales the adapter, see `VoxCPM2.set_adapter_strength`."""
    adapter = _adapter_of(model)
    adapter.strength = check_strength(strength)
    scale = adapter.trained_scale * adapter.strength
    adapter.layers = {path: with_scale(layer, scale) for path, layer in adapter.layers.items()}
    # At 0 the base layers themselves, fused as they were: the same kernels and the same bits.
    _replace(model, adapter.layers if adapter.strength else _base_layers(adapter))
    model.prepare(mx.eval)


def remove_adapter(model: Network) -> None:
    """Detaches the adapter, if there is one, see `VoxCPM2.remove_adapter`."""
    if model.adapter is not None:
        _replace(model, _base_layers(model.adapter))
        model.adapter = None
        model.prepare(mx.eval)


def fuse_adapter(model: Network) -> None:
    """Adds the adapter to the weights and detaches it, see `VoxCPM2.fuse_adapter`."""
    adapter = _adapter_of(model)
    for path, layer in _base_layers(adapter).items():
        if isinstance(layer, nn.QuantizedLinear):
            raise ValueError(
                f"{path} is quantised and would round the adapter away; leave it unfused, or "
                "convert the original with --adapter"
            )
    _replace(model, _base_layers(adapter))
    model.adapter = None
    for layer in adapter.layers.values() if adapter.strength else ():
        weight = layer.linear.weight
        fused = fused_weight(weight, layer.lora_a.T, layer.lora_b.T, layer.scale)
        layer.linear.weight = kernels.matrix_layout(fused.astype(weight.dtype))
        mx.eval(layer.linear.weight)  # so that only one is in memory in float32
    model.prepare(mx.eval)


def fuse_weights(model: Network, weights: Weights, stored: StoredAdapter) -> Weights:
    """Fuses an adapter, lazily, into a checkpoint's weights by the model's names.

    The fused ones are float32, to be rounded only once. Raises ValueError if no tensor fits.
    """
    factors, _ = match(linear_layers(model), stored)
    fused = {
        f"{path}.weight": fused_weight(weights[f"{path}.weight"], a, b, stored.scale)
        for path, (a, b) in factors.items()
    }
    return weights | fused


def add_lora(
    model: Network, settings: LoRASettings, stored: StoredAdapter | None = None
) -> Adapter:
    """Attaches LoRA layers to be trained, and freezes all other weights.

    Output is unchanged up to rounding, since B starts at 0, and projections of the same input are
    no longer fused. Until `remove_adapter` it is the model's adapter like any other, also for
    `set_adapter_strength`.

    stored: an adapter with the same settings, whose training is continued.

    Raises ValueError if the settings name a layer that the model lacks, or the stored adapter's
    differ.
    """
    if model.adapter is not None:
        raise ValueError("the model has an adapter; remove or fuse it before training another")
    layers = linear_layers(model)
    made = initial_layers(layers, settings)
    if stored is not None:
        factors, skipped = match(layers, stored)
        if skipped or factors.keys() != made.keys() or not has_settings(stored, settings):
            raise ValueError(f"{stored.source} has other settings; take those it was trained with")
        for path, pair in factors.items():
            set_factors(made[path], *pair)
    model.freeze()
    model.adapter = Adapter(made, settings.scale)
    _replace(model, made)
    return model.adapter


def lora_tensors(model: Network) -> Weights:
    """Tensors of the adapter by upstream's names: PATH.lora_A (r, in), PATH.lora_B (out, r)."""
    tensors = {}
    for path, layer in _adapter_of(model).layers.items():
        tensors[f"{path}.lora_A"], tensors[f"{path}.lora_B"] = layer.lora_a.T, layer.lora_b.T
    return tensors


def _adapter_of(model: Network) -> Adapter:
    if model.adapter is None:
        raise ValueError("the model has no adapter; load one first")
    return model.adapter


def _base_layers(adapter: Adapter) -> Layers:
    """The model's own layers that the adapter's replace."""
    return {path: layer.linear for path, layer in adapter.layers.items()}


def _replace(model: Network, layers: Mapping[str, nn.Module]) -> None:
    model.update_modules(tree_unflatten(list(layers.items())))
