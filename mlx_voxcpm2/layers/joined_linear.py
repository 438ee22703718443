"""Several linear layers over the same input as one matrix product."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy

import mlx.core as mx
import mlx.nn as nn

from .backend import arrange, project

Evaluate = Callable[..., None]


class JoinedLinear:
    """The layers keep their names and become views of the joined weights: nothing is there twice.

    Once a layer is replaced, or given other weights (by an adapter, by training), `holds` says no.
    """

    def __init__(self, layers: list[nn.Linear] | list[nn.QuantizedLinear], evaluate: Evaluate):
        self.layers = layers
        sizes = [layer.weight.shape[0] for layer in layers]
        ends = [sum(sizes[:count]) for count in range(1, len(sizes))]
        self.whole = copy(layers[0])
        for name in ("weight", "scales", "biases"):
            if layers[0].get(name) is None:
                continue
            whole = mx.concatenate([layer[name] for layer in layers])
            if isinstance(self.whole, nn.Linear):
                whole = arrange(whole)
            parts = mx.split(whole, ends)
            evaluate(whole, parts)
            self.whole[name] = whole
            for layer, part in zip(layers, parts, strict=True):
                layer[name] = part
        self.weights = [layer.weight for layer in layers]

    @classmethod
    def of(cls, layers: list[nn.Module], evaluate: Evaluate) -> JoinedLinear | None:
        """None where they are of several kinds, or of one that can't be joined.

        `evaluate`, such as `mx.eval`, is called at once, so that only these are twice in memory.
        """
        kinds = {type(layer) for layer in layers}
        if kinds not in ({nn.Linear}, {nn.QuantizedLinear}) or any("bias" in x for x in layers):
            return None
        if kinds == {nn.QuantizedLinear}:
            if len({(layer.group_size, layer.bits, layer.mode) for layer in layers}) > 1:
                return None
        return cls(layers, evaluate)

    def holds(self, layers: list[nn.Module]) -> bool:
        """Whether these are still the layers that were joined, with the weights they had."""
        return all(
            layer is mine and layer.weight is weight
            for layer, mine, weight in zip(layers, self.layers, self.weights, strict=True)
        )

    def __call__(self, x: mx.array) -> mx.array:
        """x (rows, in) -> the layers' outputs side by side (rows, out of all)."""
        return project(self.whole, x)
