"""A linear layer of 4 to 32 rows at 16 bits, with the RMSNorm before it and what follows it.

MLX pads 22 rows, the local DiT's, to 64 on Metal. Here they are 24.
"""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

from .. import kernels
from .few_rows_source import KERNEL
from .kernel import CHOICES, CustomKernel, Examples, Variant, shared_bytes, uses_metal

# Of fewer, MLX's product of a matrix and a vector is bound by memory alone.
LEAST_ROWS, MOST_ROWS = 4, 32


@dataclass(frozen=True)
class FewRows:
    """A linear layer without bias: rows (N, in) -> (N, out)."""

    rows: int
    inputs: int
    outputs: int
    """Columns of the result; the matrix has twice as many rows if the layer is gated."""
    dtype: mx.Dtype
    eps: float | None = None
    """Epsilon of the RMSNorm before it, None if there is none."""
    gated: bool = False
    """Whether the result is SwiGLU of the product's two halves."""
    scale: float | None = None
    """Factor of the product before it is added to a residual, None if it is not."""

    @property
    def kernel(self) -> CustomKernel:
        return KERNEL

    @property
    def padded_rows(self) -> int:
        """Rows with those of zeros, as the backend's products have them: of 8, or of 32."""
        return -(-self.rows // 8) * 8 if uses_metal() else MOST_ROWS

    @property
    def variants(self) -> list[Variant]:
        """Those that share the outputs among thread groups, and fit the shared memory."""
        found = []
        rows = self.padded_rows
        for warps, tiles in ((4, 4), (4, 2), (8, 2), (8, 1)):
            width, parts = 8 * tiles, 1 + self.gated
            shared = warps * rows * (parts * width * 4 + 32 * self.dtype.size) + 4 * rows
            if self.outputs % width == 0 and shared <= shared_bytes():
                found.append((("WARPS", warps), ("TILES", tiles)))
        return found

    @property
    def is_supported(self) -> bool:
        fits = (
            LEAST_ROWS <= self.rows <= MOST_ROWS and self.inputs % 32 == 0 and bool(self.variants)
        )
        return fits and self.dtype in (mx.bfloat16, mx.float16)

    def example(self) -> list[mx.array]:
        """x (N, in), weight (out or 2 out, in), norm (in,), residual (N, out)."""
        random = Examples()
        weights = self.outputs * (1 + self.gated)
        return [
            random.normal(self.rows, self.inputs, dtype=self.dtype),
            random.normal(weights, self.inputs, dtype=self.dtype, scale=self.inputs**-0.5),
            random.normal(self.inputs, dtype=self.dtype),
            random.normal(self.rows, self.outputs, dtype=self.dtype),
        ]

    def plain(self, *arrays: mx.array) -> list[mx.array]:
        """-> (N, out)."""
        x, weight, norm, residual = arrays
        layer = nn.Linear(1, 1, bias=False)
        layer.weight = weight
        if self.eps is not None:
            x = kernels.rms_norm(x, norm, self.eps)
        if self.scale is not None:
            return [kernels.add_linear(residual, layer, x, self.scale)]
        y = kernels.linear(layer, x)
        return [kernels.swiglu(*mx.split(y, 2, axis=-1)) if self.gated else y]

    def custom(self, variant: Variant, *arrays: mx.array) -> list[mx.array]:
        """As `plain`."""
        count, choice = self.rows, dict(variant)
        sizes = {"COUNT": count, "INPUTS": self.inputs, "OUTPUTS": self.outputs}
        flags = {"NORMED": self.eps is not None, "GATED": self.gated}
        return KERNEL(
            [*arrays, mx.array([self.scale or 0.0, self.eps or 0.0])],
            {
                **{"T": self.dtype, "ROWS": self.padded_rows},
                **{**sizes, **flags, "ADDS": self.scale is not None, **choice},
            },
            (self.outputs // (8 * choice["TILES"]), 1, 1),
            32 * choice["WARPS"],
            [((count, self.outputs), self.dtype)],
        )


def few_rows(
    x: mx.array,
    layer: nn.Module,
    norm: nn.RMSNorm | None = None,
    residual: mx.array | None = None,
    scale: float = 1,
    gated: bool = False,
) -> mx.array | None:
    """layer(norm(x)) for x (N, in), gated or added to the residual if so said.

    None if no custom kernel is to be used.
    """
    if not CHOICES.are_asked or type(layer) is not nn.Linear or "bias" in layer:
        return None
    arrays = (
        x,
        layer.weight,
        x if norm is None else norm.weight,
        x if residual is None else residual,
    )
    if len({array.dtype for array in arrays}) > 1:
        return None
    outputs = len(layer.weight) // (1 + gated)
    eps, factor = None if norm is None else norm.eps, None if residual is None else scale
    operation = FewRows(len(x), x.shape[1], outputs, x.dtype, eps, gated, factor)
    if not operation.is_supported:
        return None
    found = CHOICES.result(operation, *arrays)
    return None if found is None else found[0]
