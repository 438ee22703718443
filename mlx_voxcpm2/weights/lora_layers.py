"""Which layers of a model an adapter changes, and the layers that it makes of them."""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING

import mlx.core as mx
import mlx.nn as nn

from ..errors import one_line
from ..models.voxcpm2.network import VoxCPM2Model
from .adapter_files import LoRASettings, StoredAdapter

if TYPE_CHECKING:
    from mlx_lm.tuner.lora import LoRALinear

logger = logging.getLogger("mlx_voxcpm2")

Layers = dict[str, nn.Linear | nn.QuantizedLinear]
Factors = dict[str, tuple[mx.array, mx.array]]
"""By a layer's path, A (r, in) and B (out, r)."""

_LM = ("base_lm.", "residual_lm.")
_DIT = ("feat_decoder.estimator.",)


def lora_class() -> type[LoRALinear]:
    """mlx-lm's layer, imported here since that takes seconds. Raises ValueError without mlx-lm."""
    try:
        from mlx_lm.tuner.lora import LoRALinear
    except ImportError as error:
        raise ValueError(
            f"adapters need mlx-lm ({one_line(error)}); install it: pip install 'mlx-lm>=0.30'"
        ) from None
    return LoRALinear


def linear_layers(model: VoxCPM2Model) -> Layers:
    """By path."""
    return {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.QuantizedLinear)
    }


def fit(layers: Layers, stored: StoredAdapter) -> tuple[Factors, dict[str, str]]:
    """The tensors that fit a layer, and by name the reasons why others do not.

    The log says how many there are of each. Raises ValueError if nothing fits.
    """
    factors, skipped, tensors = {}, {}, stored.tensors
    for name in tensors:
        path, _, kind = name.rpartition(".")
        a, b = (tensors.get(f"{path}.lora_{letter}") for letter in "AB")
        if kind not in ("lora_A", "lora_B") or path not in layers:
            skipped[name] = "the model has no such layer"
        elif a is None or b is None:
            skipped[name] = "it needs both A and B"
        else:
            outputs, inputs = _shape(layers[path])
            rank = stored.settings.r if stored.settings else a.shape[0]
            wanted = (rank, inputs), (outputs, rank)
            if (a.shape, b.shape) == wanted:
                factors[path] = (a, b)
            else:
                skipped[name] = "A {} and B {} instead of {} and {}".format(
                    a.shape, b.shape, *wanted
                )
    loaded, first = 2 * len(factors), next(iter(skipped.items()), None)
    if not factors:
        reason = f"{first[0]}: {first[1]}" if first else "it is empty"
        raise ValueError(
            f"{stored.source}: no tensor fits this model ({reason}); take an adapter that was "
            "trained on it"
        )
    if first:
        logger.warning(
            "%s: loaded %d tensors, skipped %d: %s (%s)%s", stored.source, loaded, len(skipped),
            *first, " and others" if len(skipped) > 1 else "",
        )  # fmt: skip
    else:
        logger.info("%s: loaded %d tensors", stored.source, loaded)
    return factors, skipped


def _shape(layer: nn.Linear | nn.QuantizedLinear) -> tuple[int, int]:
    """Outputs and inputs."""
    outputs, inputs = layer.weight.shape
    if isinstance(layer, nn.QuantizedLinear):
        inputs = layer.scales.shape[-1] * layer.group_size
    return outputs, inputs


def targets(layers: Layers, settings: LoRASettings) -> list[str]:
    """Paths of the layers that the settings name. Raises ValueError for a name without one."""
    chosen: dict[str, None] = {}

    def choose(names: tuple[str, ...], stacks: tuple[str, ...]) -> None:
        for name in names:
            found = [
                path
                for path in layers
                if path.startswith(stacks) and path.rpartition(".")[2] == name
            ]
            if not found:
                raise ValueError(f"the settings name {name!r}, and the model has no such layer")
            chosen.update(dict.fromkeys(found))

    if settings.enable_lm:
        choose(settings.target_modules_lm, _LM)
    if settings.enable_dit:
        choose(settings.target_modules_dit, _DIT)
    if settings.enable_proj:
        choose(settings.target_proj_modules, settings.target_proj_modules)
    if not chosen:
        raise ValueError("no layer is to be changed; set enable_lm, enable_dit or enable_proj")
    return list(chosen)


def fresh_layers(layers: Layers, settings: LoRASettings) -> dict[str, LoRALinear]:
    """For training: A uniform within 1 / sqrt(in), B zero, float32 whatever the base is.

    That is kaiming_uniform with a = sqrt(5), as upstream begins.
    """
    make, scale = lora_class().from_base, settings.alpha / settings.r
    return {
        path: make(layers[path], settings.r, settings.dropout, scale)
        for path in targets(layers, settings)
    }


def loaded_layers(layers: Layers, factors: Factors, scale: float) -> dict[str, LoRALinear]:
    """For speaking: mlx-lm keeps both factors turned, A as (in, r) and B as (r, out); float32."""
    made, make = {}, lora_class().from_base
    for path, (a, b) in factors.items():
        made[path] = make(layers[path], len(a), scale=scale)
        fill(made[path], a, b)
    mx.eval([(layer.lora_a, layer.lora_b) for layer in made.values()])
    return made


def fill(layer: LoRALinear, a: mx.array, b: mx.array) -> None:
    """a (r, in), b (out, r) of any type become the layer's."""
    layer.lora_a, layer.lora_b = (mx.contiguous(part.astype(mx.float32).T) for part in (a, b))


def scaled(layer: LoRALinear, scale: float) -> LoRALinear:
    """The same with another scale: another object, since a compiled graph holds its numbers and
    is only made anew for layers that were replaced."""
    layer = copy.copy(layer)
    layer.scale = scale
    return layer


def fused(weight: mx.array, a: mx.array, b: mx.array, scale: float) -> mx.array:
    """weight (out, in) + scale * B A, in float32."""
    a, b = a.astype(mx.float32), b.astype(mx.float32)
    return weight.astype(mx.float32) + scale * (b @ a)
