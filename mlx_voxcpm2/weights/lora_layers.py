"""LoRA layers: which layers of a network an adapter fits, and the layers that replace them."""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING

import mlx.core as mx
import mlx.nn as nn

from ..models.family import Network
from ..models.voxcpm2.lora import LoRASettings
from .adapter_files import StoredAdapter

if TYPE_CHECKING:
    from mlx_lm.tuner.lora import LoRALinear

logger = logging.getLogger("mlx_voxcpm2")

Layers = dict[str, nn.Linear | nn.QuantizedLinear]
"""Linear layers by path."""
Factors = dict[str, tuple[mx.array, mx.array]]
"""A (r, in) and B (out, r) by a layer's path."""


def linear_layers(model: Network) -> Layers:
    """All linear layers of a network, by path."""
    return {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.QuantizedLinear)
    }


def match(layers: Layers, stored: StoredAdapter) -> tuple[Factors, dict[str, str]]:
    """Matches an adapter's tensors with layers.

    Returns the factors of the layers that it changes, and by name the reason why a tensor is not
    used. Logs the number of each. Raises ValueError if no tensor is used.
    """
    factors, skipped = {}, {}
    for name in stored.tensors:
        path, _, kind = name.rpartition(".")
        if kind not in ("lora_A", "lora_B") or path not in layers:
            skipped[name] = "the model has no such layer"
        elif (reason := _mismatch(layers[path], path, stored)) is not None:
            skipped[name] = reason
        else:
            factors[path] = (stored.tensors[f"{path}.lora_A"], stored.tensors[f"{path}.lora_B"])
    loaded, first = 2 * len(factors), next(iter(skipped.items()), None)
    if not factors:
        reason = f"{first[0]}: {first[1]}" if first else "it is empty"
        raise ValueError(
            f"{stored.source}: no tensor fits this model ({reason}); take an adapter that was "
            "trained on it"
        )
    if first:
        others = " and others" if len(skipped) > 1 else ""
        counts = f"loaded {loaded} tensors, skipped {len(skipped)}"
        logger.warning("%s: %s: %s (%s)%s", stored.source, counts, *first, others)
    else:
        logger.info("%s: loaded %d tensors", stored.source, loaded)
    return factors, skipped


def _mismatch(
    layer: nn.Linear | nn.QuantizedLinear, path: str, stored: StoredAdapter
) -> str | None:
    """Reason why the adapter's factors for this path do not fit the layer, or None if they do."""
    a, b = (stored.tensors.get(f"{path}.lora_{letter}") for letter in "AB")
    if a is None or b is None:
        return "it needs both A and B"
    outputs, inputs = _shape(layer)
    rank = stored.settings.r if stored.settings else a.shape[0]
    wanted = (rank, inputs), (outputs, rank)
    if (a.shape, b.shape) == wanted:
        return None
    return "A {} and B {} instead of {} and {}".format(a.shape, b.shape, *wanted)


def _shape(layer: nn.Linear | nn.QuantizedLinear) -> tuple[int, int]:
    """Numbers of outputs and inputs."""
    outputs, inputs = layer.weight.shape
    if isinstance(layer, nn.QuantizedLinear):
        inputs = layer.scales.shape[-1] * layer.group_size
    return outputs, inputs


def initial_layers(layers: Layers, settings: LoRASettings) -> dict[str, LoRALinear]:
    """LoRA layers to be trained: A uniform within 1 / sqrt(in), B zero, both float32.

    Upstream's initialisation is the same: kaiming_uniform with a = sqrt(5).
    """
    from mlx_lm.tuner.lora import LoRALinear  # which takes seconds

    return {
        path: LoRALinear.from_base(layers[path], settings.r, settings.dropout, settings.scale)
        for path in settings.target_paths(layers)
    }


def loaded_layers(layers: Layers, factors: Factors, scale: float) -> dict[str, LoRALinear]:
    """LoRA layers with the factors of a stored adapter, in float32."""
    from mlx_lm.tuner.lora import LoRALinear

    made = {}
    for path, (a, b) in factors.items():
        made[path] = LoRALinear.from_base(layers[path], len(a), scale=scale)
        set_factors(made[path], a, b)
    mx.eval([(layer.lora_a, layer.lora_b) for layer in made.values()])
    return made


def set_factors(layer: LoRALinear, a: mx.array, b: mx.array) -> None:
    """Stores a (r, in) and b (out, r), of any type: mlx-lm has both transposed, in float32."""
    layer.lora_a, layer.lora_b = (mx.contiguous(part.astype(mx.float32).T) for part in (a, b))


def with_scale(layer: LoRALinear, scale: float) -> LoRALinear:
    """Copy of a layer with another scale.

    A compiled graph holds the scale as a constant and is traced again only for another layer.
    """
    layer = copy.copy(layer)
    layer.scale = scale
    return layer


def fused_weight(weight: mx.array, a: mx.array, b: mx.array, scale: float) -> mx.array:
    """weight (out, in) + scale * B A, in float32."""
    a, b = a.astype(mx.float32), b.astype(mx.float32)
    return weight.astype(mx.float32) + scale * (b @ a)
