"""Adapters on a model: put on, made stronger or weaker, fused into the weights, taken off."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from ..layers import backend
from .adapter_files import LoRASettings, StoredAdapter, check_strength, read_adapter
from .files import Weights
from .lora_layers import (
    Layers,
    fill,
    fit,
    fresh_layers,
    fused,
    linear_layers,
    loaded_layers,
    scaled,
)

if TYPE_CHECKING:
    from mlx_lm.tuner.lora import LoRALinear

    from ..models.voxcpm2.network import VoxCPM2Model


@dataclass
class Adapter:
    """What is on a model, as `VoxCPM2.adapter` tells."""

    layers: dict[str, LoRALinear]
    """By path. Each holds the layer whose place it takes as `linear`."""
    unit: float
    """What multiplies B A at strength 1."""
    strength: float = 1.0
    source: Path | None = None
    """The file of its weights, unless it was made here."""
    skipped: dict[str, str] = field(default_factory=dict)
    """That file's tensors that the model has no use for, and why."""

    @property
    def loaded(self) -> int:
        """Tensors that are in use."""
        return 2 * len(self.layers)


def load_adapter(
    model: VoxCPM2Model, path_or_repo: str | Path, strength: float | None = None
) -> Adapter:
    """See `VoxCPM2.load_adapter`."""
    return put_on(model, read_adapter(path_or_repo, strength))


def put_on(model: VoxCPM2Model, stored: StoredAdapter) -> Adapter:
    """The layers that the tensors name become LoRA layers, in place of the adapter before.

    Raises ValueError, and leaves all as it was, if nothing fits.
    """
    layers = _layers_below(model)
    factors, skipped = fit(layers, stored)
    made = loaded_layers(layers, factors, stored.unit)
    remove_adapter(model)
    model.adapter = Adapter(made, stored.unit, source=stored.source, skipped=skipped)
    set_strength(model, stored.strength)
    return model.adapter


def set_strength(model: VoxCPM2Model, strength: float) -> None:
    """See `VoxCPM2.set_adapter_strength`."""
    adapter = _adapter_of(model)
    adapter.strength = check_strength(strength)
    scale = adapter.unit * adapter.strength
    adapter.layers = {path: scaled(layer, scale) for path, layer in adapter.layers.items()}
    # At 0 the very layers of the model, joined as they were: the same kernels and the same bits.
    _place(model, adapter.layers if adapter.strength else _layers_of(adapter))


def remove_adapter(model: VoxCPM2Model) -> None:
    """See `VoxCPM2.remove_adapter`."""
    if model.adapter is not None:
        _place(model, _layers_of(model.adapter))
        model.adapter = None


def fuse_adapter(model: VoxCPM2Model) -> None:
    """See `VoxCPM2.fuse_adapter`."""
    adapter = _adapter_of(model)
    for path, layer in _layers_of(adapter).items():
        if isinstance(layer, nn.QuantizedLinear):
            raise ValueError(
                f"{path} is quantised and would round the adapter away; leave it unfused, or "
                "convert the original with --adapter"
            )
    remove_adapter(model)
    if not adapter.strength:
        return
    for layer in adapter.layers.values():
        weight = layer.linear.weight
        whole = fused(weight, layer.lora_a.T, layer.lora_b.T, layer.scale)
        layer.linear.weight = backend.arrange(whole.astype(weight.dtype))
        mx.eval(layer.linear.weight)  # so that only one is in memory in float32
    model.join(mx.eval)


def fuse_weights(model: VoxCPM2Model, weights: Weights, stored: StoredAdapter) -> Weights:
    """A checkpoint's weights by the model's names -> with the adapter in them, lazily.

    What it changes becomes float32, to be rounded only once. Raises ValueError if nothing fits.
    """
    factors, _ = fit(linear_layers(model), stored)
    changed = {
        f"{path}.weight": fused(weights[f"{path}.weight"], a, b, stored.scale)
        for path, (a, b) in factors.items()
    }
    return weights | changed


def add_lora(
    model: VoxCPM2Model, settings: LoRASettings, stored: StoredAdapter | None = None
) -> Adapter:
    """LoRA layers to be trained, all else frozen. The model speaks as before, since B is 0, but
    for rounding: projections of the same input are no longer one product.

    stored: an adapter with the same settings, to go on from instead. Until `remove_adapter` it is
    the model's adapter as any other, also for `set_adapter_strength`.

    Raises ValueError where the settings name what the model has not, or the stored one differs.
    """
    if model.adapter is not None:
        raise ValueError("the model has an adapter; remove or fuse it before training another")
    layers = linear_layers(model)
    made = fresh_layers(layers, settings)
    if stored is not None:
        factors, skipped = fit(layers, stored)
        if skipped or factors.keys() != made.keys() or stored.settings not in (None, settings):
            raise ValueError(f"{stored.source} has other settings; take those it was trained with")
        for path, pair in factors.items():
            fill(made[path], *pair)
    model.freeze()
    model.adapter = Adapter(made, settings.alpha / settings.r)
    _place(model, made)
    return model.adapter


def lora_tensors(model: VoxCPM2Model) -> Weights:
    """The adapter's tensors by upstream's names: PATH.lora_A (r, in), PATH.lora_B (out, r)."""
    tensors = {}
    for path, layer in _adapter_of(model).layers.items():
        tensors[f"{path}.lora_A"], tensors[f"{path}.lora_B"] = layer.lora_a.T, layer.lora_b.T
    return tensors


def _adapter_of(model: VoxCPM2Model) -> Adapter:
    if model.adapter is None:
        raise ValueError("the model has no adapter; load one first")
    return model.adapter


def _layers_of(adapter: Adapter) -> Layers:
    """The model's own, without the adapter."""
    return {path: layer.linear for path, layer in adapter.layers.items()}


def _layers_below(model: VoxCPM2Model) -> Layers:
    """All that an adapter could change, as if none were on."""
    below = _layers_of(model.adapter) if model.adapter is not None else {}
    return linear_layers(model) | below


def _place(model: VoxCPM2Model, layers: dict[str, nn.Module]) -> None:
    model.update_modules(tree_unflatten(list(layers.items())))
