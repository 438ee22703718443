"""A trial: a kernel's result against the plain graph's on random inputs, and its time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import Any

import mlx.core as mx

from ..errors import one_line
from ..layers.custom.kernel import Operation, Variant

# Of the plain graph's time, at which a kernel is worth its use.
WORTHWHILE = 0.97
# Calls in a row, each of which waits for the one before, and rounds of custom and plain in turn.
_CALLS, _ROUNDS = 20, 5
# Bytes from which an array is a matrix, which a patch reads from memory; and of the largest caches.
_LARGE, _CACHES = 2**20, 2**27
# In MLX's messages when Metal or CUDA refuses a kernel, as it will do each time; and in those of
# CUDA's compiler when a header is not installed, which may be mended.
_REFUSALS = (
    "unable to build metal library from source",
    "unable to load kernel",
    "unable to load function",
    "thread group size",
    "failed to compile kernel",
)
_NO_HEADER = "open source file"


@dataclass(frozen=True)
class Verdict:
    """What a trial found, and whether the kernel is used."""

    variant: Variant | None
    """The variant to use; None for the plain graph."""
    ratio: float | None
    """The fastest variant's time over the plain graph's; None if none was right."""
    fault: str = ""
    """Why no variant was right, in one line."""
    is_final: bool = True
    """Whether another trial would find the same: not after lack of memory or a driver's trouble."""


class Trial:
    """Tries operations. clock: seconds, and evaluate: MLX's; a test gives its own."""

    def __init__(
        self,
        clock: Callable[[], float] = time.perf_counter,
        evaluate: Callable[..., None] = mx.eval,
    ):
        self.clock, self.evaluate = clock, evaluate

    def verdict(self, operation: Operation) -> Verdict:
        """Tries every variant. Nothing that a kernel raises gets out: loading would fail."""
        try:
            return self._verdict(operation)
        except Exception as error:  # such as too little memory
            return Verdict(None, None, one_line(error), is_final=False)

    def runs(self, operation: Operation, variant: Variant) -> bool:
        """Whether a variant that won in an earlier process still runs.

        The system, its compiler or CUDA's headers may be others since.
        """
        try:
            self.evaluate(operation.custom(variant, *operation.example()))
        except Exception:  # whatever a compiler or a driver says
            return False
        return True

    def _verdict(self, operation: Operation) -> Verdict:
        arrays = operation.example()
        plain, truth = operation.plain(*arrays), reference(operation, arrays)
        self.evaluate(arrays, plain, truth)
        if not all(mx.all(mx.isfinite(each)).item() for each in (*plain, *truth)):
            # Not the kernel's fault: nothing can be compared with that.
            return Verdict(None, None, "the plain graph's result is not finite", is_final=False)
        ratios: dict[Variant, float] = {}
        fault, is_final = "", True
        for variant in operation.variants:
            try:
                found = operation.custom(variant, *arrays)
                self.evaluate(found)
                if not all(is_as_exact(*each) for each in zip(found, plain, truth, strict=True)):
                    fault = fault or "its result differs from the plain graph's"
                    continue
                ratios[variant] = self._ratio(operation, variant, arrays)
            except Exception as error:  # whatever a compiler or a driver says
                fault = fault or one_line(error)
                is_final &= _is_refusal(str(error).lower())
        if not ratios:
            return Verdict(None, None, fault, is_final)
        best = min(ratios, key=lambda variant: ratios[variant])
        ratio = ratios[best]
        if ratio < WORTHWHILE:
            return Verdict(best, ratio)
        return Verdict(None, ratio, is_final=is_final)

    def _ratio(self, operation: Operation, variant: Variant, arrays: list[mx.array]) -> float:
        """Median over rounds of the custom kernel's time over the plain graph's."""

        def custom(*arrays: mx.array) -> list[mx.array]:
            return operation.custom(variant, *arrays)

        first, *others = arrays
        inputs = [others, *(list(map(_copy, others)) for _ in range(_copies(others) - 1))]
        self.evaluate(inputs)
        ratios = []
        for _ in range(_ROUNDS + 1):
            seconds = [self._seconds(each, first, inputs) for each in (custom, operation.plain)]
            ratios.append(seconds[0] / seconds[1])
        return statistics.median(ratios[1:])  # the first round compiles

    def _seconds(
        self, function: Callable[..., list[mx.array]], first: mx.array, inputs: list[list[mx.array]]
    ) -> float:
        for others in islice(cycle(inputs), _CALLS):
            first = _after(first, function(first, *others)[0])
        begin = self.clock()
        self.evaluate(first)
        return max(self.clock() - begin, 1e-9)


def _is_refusal(message: str) -> bool:
    return _NO_HEADER not in message and any(each in message for each in _REFUSALS)


def _copies(arrays: list[mx.array]) -> int:
    """Number of sets of inputs, so many that none is in a cache when it is read again."""
    large = sum(array.nbytes for array in arrays if array.nbytes >= _LARGE)
    return min(_CALLS, -(-_CACHES // large)) if large else 1


def _copy(array: mx.array) -> mx.array:
    """A large array in memory of its own, a small one as it is."""
    return array * 1 if array.nbytes >= _LARGE else array


@mx.compile
def _after(x: mx.array, result: mx.array) -> mx.array:
    """x, known once the result is: the next call has to wait, as a layer does for the last one."""
    return x + 0 * result.reshape(-1)[:1]


def reference(operation: Operation, arrays: Sequence[mx.array]) -> list[mx.array]:
    """The plain graph's result with all computed in float32."""
    wide = [a.astype(mx.float32) if mx.issubdtype(a.dtype, mx.floating) else a for a in arrays]
    settings: Any = operation
    if hasattr(settings, "dtype"):
        settings = replace(settings, dtype=mx.float32)
    return settings.plain(*wide)


def is_as_exact(found: mx.array, plain: mx.array, truth: mx.array) -> bool:
    """Whether a result is as near to the float32 one as the plain graph's, within rounding."""
    if found.shape != plain.shape or found.dtype != plain.dtype:
        return False

    def errors(result: mx.array) -> tuple[float, float]:
        difference = mx.abs(result.astype(mx.float32) - truth)
        return mx.max(difference).item(), mx.sqrt(mx.mean(mx.square(difference))).item()

    (largest, mean), (plain_largest, plain_mean) = errors(found), errors(plain)
    # Of the order of the sums: float32 is its own reference.
    rest = 2**-20 * (1 + mx.max(mx.abs(truth)).item())
    return largest <= 2 * plain_largest + rest and mean <= 1.3 * plain_mean + rest
