"""Linear layers of the same input computed as one matrix product, such as q, k and v."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy

import mlx.core as mx
import mlx.nn as nn

from . import kernels
from .custom.few_rows import few_rows

Evaluate = Callable[..., None]
"""`mx.eval`, or a stand-in for it."""


class FusedProjections(nn.Module):
    """A module whose linear layers named in `projections` have the same input.

    `fuse` concatenates their weights once they are final. The layers keep their names, for saving
    and for adapters, and their weights become views of the whole, so nothing is in memory twice.
    Before one of the layers or of their weights is replaced, `unfuse` has to be called.
    """

    projections: tuple[str, ...]

    def __init__(self):
        super().__init__()
        self.unfuse()

    def fuse(self, evaluate: Evaluate) -> None:
        """Concatenates the weights, unless the layers differ in kind or have an adapter.

        `evaluate` is called at once, so that only these weights are in memory twice meanwhile.
        """
        layers = [self[name] for name in self.projections]
        if _can_be_fused(layers):
            whole = _concatenated(layers, evaluate)
            self.fused = lambda: whole  # a function, since a submodule would be saved too

    def unfuse(self) -> None:
        """Undoes `fuse`: each layer computes its own product."""
        self.fused: Callable[[], nn.Module] | None = None

    def project(self, x: mx.array, norm: nn.RMSNorm | None = None) -> list[mx.array]:
        """Each layer's output (N, out) for norm(x), x (N, in), or if fused one array side by side.

        Without a norm, for x.
        """
        if self.fused is not None and not self.training:
            found = few_rows(x, self.fused(), norm)
            if found is not None:
                return [found]
        x = x if norm is None else norm(x)
        if self.fused is not None:
            return [kernels.linear(self.fused(), x)]
        return [kernels.linear(self[name], x) for name in self.projections]

    def gate(self, x: mx.array, norm: nn.RMSNorm) -> mx.array | None:
        """SwiGLU of two fused layers' outputs of norm(x) by one custom kernel, None without it."""
        if self.fused is None or self.training:
            return None
        return few_rows(x, self.fused(), norm, gated=True)


def _can_be_fused(layers: list[nn.Module]) -> bool:
    kinds = {(type(layer), "bias" in layer) for layer in layers}
    if len(kinds) > 1 or type(layers[0]) not in (nn.Linear, nn.QuantizedLinear):
        return False
    if type(layers[0]) is nn.Linear:
        return len({layer.weight.dtype for layer in layers}) == 1
    return len({(layer.group_size, layer.bits, layer.mode) for layer in layers}) == 1


def _concatenated(layers: list[nn.Module], evaluate: Evaluate) -> nn.Linear | nn.QuantizedLinear:
    """One layer of the same kind; the layers' own arrays become views of its arrays."""
    whole = copy(layers[0])
    sizes = [layer.weight.shape[0] for layer in layers]
    ends = [sum(sizes[:count]) for count in range(1, len(sizes))]
    for name in ("weight", "scales", "biases", "bias"):
        if layers[0].get(name) is None:
            continue
        joined = mx.concatenate([layer[name] for layer in layers])
        if name == "weight" and isinstance(whole, nn.Linear):
            joined = kernels.matrix_layout(joined)
        parts = mx.split(joined, ends)
        evaluate(joined, parts)
        whole[name] = joined
        for layer, part in zip(layers, parts, strict=True):
            layer[name] = part
    return whole
