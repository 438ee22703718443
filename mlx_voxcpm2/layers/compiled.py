"""Functions of a module compiled with its weights as constants, which makes graphs half as long."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import mlx.core as mx
import mlx.nn as nn


class Derived:
    """What is computed of weights: once, and again for others."""

    def __init__(self, function: Callable):
        self.function = function
        self.weights: tuple[mx.array, ...] = ()
        self.result: object = None

    def __call__(self, *weights: mx.array):
        if not self.weights or any(a is not b for a, b in zip(weights, self.weights, strict=True)):
            self.weights, self.result = weights, self.function(*weights)
        return self.result


class CompiledGraphs:
    """One graph per key and shapes of the arrays; other weights make new graphs.

    Weights count as others when they are replaced, not when a number in them is assigned to.
    """

    def __init__(self, module: nn.Module):
        self.module = module
        self.held: list[tuple[dict | list, str | int, object]] = []
        self.graphs: dict[Hashable, Callable] = {}

    def _remember(self) -> None:
        """Every layer and array that the graphs will have been traced with, and where it was."""
        self.held, self.graphs = [], {}
        for module in self.module.modules():
            for key, value in module.items():
                self.held.append((module, key, value))
                if isinstance(value, list):
                    self.held += [(value, index, item) for index, item in enumerate(value)]

    def __call__(self, key: Hashable, function: Callable, *arrays: mx.array | list[mx.array]):
        """What `function` of the arrays gives; for one key it must always be the same one."""
        if not self.held or any(owner[key] is not value for owner, key, value in self.held):
            self._remember()
        if key not in self.graphs:
            self.graphs[key] = mx.compile(function)
        return self.graphs[key](*arrays)
