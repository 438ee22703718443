"""Compiled functions, whose elementwise operations MLX fuses into kernels.

For a CPU, MLX compiles each kernel with g++ when it is first used, most of a second each, and keeps
them in the temporary folder. A sentence takes less time than its kernels (2 s against 30 s for the
demo), so a process begins without them, and `speech.kernel_build` compiles them beside it once it
has spoken for a while. On x86-64 both ways give the same bits. On ARM, g++ fuses multiplications
with additions, which rounds once instead of twice: there all speech does without kernels, whatever
was compiled before, so that a seed gives one take, and all training uses them.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Hashable
from functools import wraps
from typing import TypeVar

import mlx.core as mx

from .device import on_cpu

Result = TypeVar("Result")


class Fusion:
    """Whether this process uses fused kernels on a CPU; a GPU always does."""

    def __init__(self, is_on: bool, is_exact: bool = True):
        self.is_on = is_on
        self.is_exact = is_exact
        """Whether kernels give the same bits, so that a process may begin to use them later."""

    def is_postponed(self) -> bool:
        """Whether functions run without kernels for now."""
        return not self.is_on and on_cpu()


FUSION = Fusion(is_on=sys.platform != "linux", is_exact=platform.machine() == "x86_64")


def fused(function: Callable[..., Result]) -> Callable[..., Result]:
    """The function, compiled for arrays of any shape unless kernels are postponed."""
    compiled = mx.compile(function, shapeless=True)

    @wraps(function)
    def call(*arrays) -> Result:
        return function(*arrays) if FUSION.is_postponed() else compiled(*arrays)

    return call


def compiled_graph(
    function: Callable[..., Result], state: list[mx.array] | None = None
) -> Callable[..., Result]:
    """The function, compiled for each shapes of its arrays unless kernels are postponed.

    state: arrays that the function replaces, such as MLX's random state.
    """
    compiled = mx.compile(function, inputs=state, outputs=state)

    @wraps(function)
    def call(*arrays) -> Result:
        return function(*arrays) if FUSION.is_postponed() else compiled(*arrays)

    return call


class CompiledFunctions:
    """One `mx.compile`d function per key; MLX traces it once per shapes of the arrays.

    The weights are constants of the trace, which leaves half of the graph's nodes to be replayed.
    After a weight is replaced, `clear` has to be called.
    """

    def __init__(self):
        self._functions: dict[Hashable, Callable] = {}

    def __call__(self, key: Hashable, function: Callable, *arrays: mx.array | list[mx.array]):
        """function(*arrays). The key must determine all else that the function depends on."""
        if FUSION.is_postponed():
            return function(*arrays)
        if key not in self._functions:
            self._functions[key] = mx.compile(function)
        return self._functions[key](*arrays)

    def clear(self) -> None:
        """Discards all traces, so that the next call reads the weights again."""
        self._functions = {}
