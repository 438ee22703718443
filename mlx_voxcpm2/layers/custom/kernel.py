"""One source for Metal and CUDA: what the two name differently is defined before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol

from .. import device  # isort: skip  before MLX: a fast BLAS is loaded

import mlx.core as mx  # isort: skip

Variant = tuple[tuple[str, int], ...]
"""Template arguments that change a kernel's speed and not its result."""

TYPES = (mx.bfloat16, mx.float16, mx.float32)
"""Types of the activations for which the kernels are written."""

_CONSTANT = 8
"""Elements of an input from which MLX's Metal has it in the address space device, not constant."""

_METAL = """
#include <metal_simdgroup>
#include <metal_simdgroup_matrix>
using namespace metal;
#define FUNCTION inline
#define UNROLL _Pragma("clang loop unroll(full)")
#define SHARED threadgroup
#define SYNC threadgroup_barrier(mem_flags::mem_threadgroup)
#define WARP_SYNC simdgroup_barrier(mem_flags::mem_threadgroup)
FUNCTION float lane_sum(float x) { return simd_sum(x); }
FUNCTION float lane_max(float x) { return simd_max(x); }
FUNCTION float from_lane(float x, int lane) { return simd_shuffle(x, ushort(lane)); }
"""
_METAL_PLACE = """
    const uint3 group = threadgroup_position_in_grid;
    const int member = thread_position_in_threadgroup.x;
"""

_CUDA = """
#define FUNCTION __device__ inline
#define UNROLL _Pragma("unroll")
#define SHARED __shared__ __align__(32)
#define SYNC __syncthreads()
#define WARP_SYNC __syncwarp()
FUNCTION float from_lane(float x, int lane) { return __shfl_sync(0xffffffffu, x, lane); }
FUNCTION float lane_sum(float x) {
    for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}
FUNCTION float lane_max(float x) {
    for (int step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
    return x;
}
"""
_CUDA_PLACE = """
    const uint3 group = blockIdx;
    const int member = threadIdx.x;
"""


def uses_metal() -> bool:
    """Whether the GPU's kernels are Metal's, not CUDA's."""
    return mx.metal.is_available()


def shared_bytes() -> int:
    """Most shared memory that a thread group may declare; CUDA's compiler refuses more."""
    return (32 if uses_metal() else 48) * 1024


@dataclass(frozen=True)
class CustomKernel:
    """The source of a kernel, compiled by MLX at its first launch.

    body: the function's body. `group` is the position of the thread group in the grid, `member` the
    number of the thread in it; 32 threads in order are a warp (Metal: SIMD group). Loops over a
    thread's own arrays are unrolled, so that these are registers.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    body: str
    metal_header: str = ""
    cuda_header: str = ""
    cuda_includes: str = ""

    @property
    def sources(self) -> tuple[str, ...]:
        """Everything that is compiled, for either backend."""
        metal = _METAL, self.metal_header, _METAL_PLACE
        cuda = self.cuda_includes, _CUDA, self.cuda_header, _CUDA_PLACE
        return (*metal, *cuda, self.body)

    def __call__(
        self,
        arrays: Sequence[mx.array],
        template: dict[str, mx.Dtype | int | bool],
        groups: tuple[int, int, int],
        threads: int,
        outputs: Sequence[tuple[tuple[int, ...], mx.Dtype]],
    ) -> list[mx.array]:
        """Launches `groups` thread groups of `threads` threads each.

        outputs: the outputs' shapes and types.
        """
        metal = uses_metal()
        is_small = tuple(array.size < _CONSTANT for array in arrays) if metal else ()
        return _build(self, metal, is_small)(
            inputs=list(arrays),
            template=list(template.items()),
            grid=(groups[0] * threads, groups[1], groups[2]),
            threadgroup=(threads, 1, 1),
            output_shapes=[shape for shape, _ in outputs],
            output_dtypes=[dtype for _, dtype in outputs],
        )


@cache
def _build(kernel: CustomKernel, metal: bool, is_small: tuple[bool, ...]):
    """MLX's function for a kernel: built once, since MLX compiles at each construction.

    is_small: for each of Metal's inputs, whether it has fewer than `_CONSTANT` elements. Each has
    its own name: before 0.32.1 MLX freed a kernel, of which launches may still run, when it was
    given another source of the same name.
    """
    make = mx.fast.metal_kernel if metal else mx.fast.cuda_kernel
    place, header = _CUDA_PLACE, kernel.cuda_includes + _CUDA + kernel.cuda_header
    if metal:
        place, header = _METAL_PLACE, _METAL + kernel.metal_header
    return make(
        name="_".join(["voxcpm2", kernel.name, *("dc"[small] for small in is_small)]),
        input_names=list(kernel.inputs),
        output_names=list(kernel.outputs),
        source=place + kernel.body,
        header=header,
    )


class Operation(Protocol):
    """A call of a kernel by its sizes, and the plain graph that computes the same.

    Equal operations are one shape class: what is true of one call is taken to be true of all.
    """

    @property
    def kernel(self) -> CustomKernel: ...

    @property
    def variants(self) -> list[Variant]:
        """The kernel's variants for these sizes, at least one."""
        ...

    def example(self) -> list[mx.array]:
        """Random inputs."""
        ...

    def plain(self, *arrays: mx.array) -> list[mx.array]:
        """The result by MLX's own kernels."""
        ...

    def custom(self, variant: Variant, *arrays: mx.array) -> list[mx.array]:
        """The result by the custom kernel."""
        ...


class Choices:
    """The variant of each operation that is used in this process; none on a CPU."""

    def __init__(self):
        self.variants: dict[Operation, Variant] = {}
        self.noted: set[Operation] | None = None
        """While not None: every operation that is asked for, so that it can be tried."""

    @property
    def are_asked(self) -> bool:
        """Whether any answer but None is possible, or operations are noted."""
        return (bool(self.variants) or self.noted is not None) and not device.on_cpu()

    def variant(self, operation: Operation) -> Variant | None:
        """The variant to use, None for the plain graph."""
        if self.noted is not None:
            self.noted.add(operation)
        return self.variants.get(operation)

    def result(self, operation: Operation, *arrays: mx.array) -> list[mx.array] | None:
        """The custom kernel's result, None if the plain graph is to be used."""
        variant = self.variant(operation)
        return None if variant is None else operation.custom(variant, *arrays)


CHOICES = Choices()


def size_class(count: int) -> int:
    """The next power of two: sizes that are tried as one."""
    return 1 << max(count - 1, 0).bit_length()


class Examples:
    """Random arrays, the same in every run, which leave MLX's own random state alone."""

    def __init__(self):
        self.keys = iter(mx.random.split(mx.random.key(0), 16))

    def normal(self, *shape: int, dtype: mx.Dtype = mx.float32, scale: float = 1.0) -> mx.array:
        """Numbers of a normal distribution around 0."""
        return mx.random.normal(shape, scale=scale, key=next(self.keys)).astype(dtype)

    def uniform(self, low: float, high: float, *shape: int) -> mx.array:
        """Numbers between low and high."""
        return mx.random.uniform(low, high, shape, key=next(self.keys))
