"""Compiled functions of a network, with its weights as constants."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import mlx.core as mx


class CompiledFunctions:
    """One `mx.compile`d function per key; MLX traces it once per shapes of the arrays.

    The weights are constants of the trace, which leaves half of the graph's nodes to be replayed.
    After a weight is replaced, `clear` has to be called.
    """

    def __init__(self):
        self._functions: dict[Hashable, Callable] = {}

    def __call__(self, key: Hashable, function: Callable, *arrays: mx.array | list[mx.array]):
        """function(*arrays). The key must determine all else that the function depends on."""
        if key not in self._functions:
            self._functions[key] = mx.compile(function)
        return self._functions[key](*arrays)

    def clear(self) -> None:
        """Discards all traces, so that the next call reads the weights again."""
        self._functions = {}
