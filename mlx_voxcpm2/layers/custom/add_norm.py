"""Residual addition and RMSNorm of the sum in one kernel, where a product does not add itself."""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

from .. import kernels
from .kernel import CHOICES, TYPES, CustomKernel, Examples, Variant, size_class

# A thread group normalises one row. It rounds where the plain graph does: after scaling, adding,
# normalising and weighting.
_BODY = """
    constexpr int COUNT = (HIDDEN + 32 * WARPS - 1) / (32 * WARPS);
    SHARED float squares[32];
    const int lane = member % 32, warp = member / 32;
    const int start = group.x * HIDDEN;
    float kept[COUNT];
    float square = 0;
    UNROLL
    for (int i = 0; i < COUNT; i++) {
        const int place = member + 32 * WARPS * i;
        if (place < HIDDEN) {
            const T scaled =
                static_cast<T>(static_cast<float>(terms[start + place]) * settings[0]);
            const T total = static_cast<T>(
                static_cast<float>(residual[start + place]) + static_cast<float>(scaled));
            sums[start + place] = total;
            kept[i] = static_cast<float>(total);
            square += kept[i] * kept[i];
        }
    }
    square = lane_sum(square);
    if (lane == 0) squares[warp] = square;
    SYNC;
    const float mean = lane_sum(lane < WARPS ? squares[lane] : 0.0f) / HIDDEN;
    const float inverse = rsqrt(mean + settings[1]);
    UNROLL
    for (int i = 0; i < COUNT; i++) {
        const int place = member + 32 * WARPS * i;
        if (place < HIDDEN) {
            const T unit = static_cast<T>(kept[i] * inverse);
            normed[start + place] = static_cast<T>(
                static_cast<float>(weight[place]) * static_cast<float>(unit));
        }
    }
"""

KERNEL = CustomKernel(
    "add_norm", ("residual", "terms", "weight", "settings"), ("sums", "normed"), _BODY
)


@dataclass(frozen=True)
class AddNorm:
    """residual + scale * terms, and its RMSNorm."""

    rows: int
    """Class of the number of rows."""
    hidden: int
    scale: float
    eps: float
    dtype: mx.Dtype

    @property
    def kernel(self) -> CustomKernel:
        return KERNEL

    @property
    def variants(self) -> list[Variant]:
        return [(("WARPS", warps),) for warps in (4, 8, 16)]

    def example(self) -> list[mx.array]:
        """residual and terms (N, H), weight (H,)."""
        random = Examples()
        shapes = (self.rows, self.hidden), (self.rows, self.hidden), (self.hidden,)
        return [random.normal(*shape, dtype=self.dtype) for shape in shapes]

    def plain(self, *arrays: mx.array) -> list[mx.array]:
        """-> the sum and its norm, (N, H) each."""
        residual, terms, weight = arrays
        total = residual + (terms if self.scale == 1 else terms * self.scale)
        return [total, kernels.rms_norm(total, weight, self.eps)]

    def custom(self, variant: Variant, *arrays: mx.array) -> list[mx.array]:
        """As `plain`."""
        shape = arrays[0].shape
        return KERNEL(
            [*arrays, mx.array([self.scale, self.eps])],
            {"T": self.dtype, "HIDDEN": self.hidden, **dict(variant)},
            (shape[0], 1, 1),
            32 * dict(variant)["WARPS"],
            [(shape, self.dtype), (shape, self.dtype)],
        )


def add_linear_norm(
    residual: mx.array, layer: nn.Module, x: mx.array, scale: float, norm: nn.RMSNorm
) -> list[mx.array] | None:
    """The sum residual + scale * layer(x), and norm of the sum, (N, H) each.

    None if no custom kernel is to be used, or a plain matrix adds itself to the residual.
    """
    if not CHOICES.are_asked or residual.dtype not in TYPES or kernels.adds_itself(layer, x):
        return None
    if not residual.dtype == x.dtype == norm.weight.dtype:
        return None
    rows, hidden = residual.shape
    operation = AddNorm(size_class(rows), hidden, scale, norm.eps, residual.dtype)
    variant = CHOICES.variant(operation)
    if variant is None:
        return None
    return operation.custom(variant, residual, kernels.linear(layer, x), norm.weight)
