"""A linear layer of 4 to 32 rows at 16 bits, with the RMSNorm before it and what follows it.

MLX pads 22 rows, the local DiT's, to 64 on Metal. Here they are 24.
"""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

from .. import kernels
from .kernel import CHOICES, CustomKernel, Examples, Variant, uses_metal

# A thread group computes all rows of some outputs, 8 * TILES (of the gate and of as many of the
# other half, if gated). Its warps share the inputs: each takes every WARPS-th 32 of them, brings
# the rows into shared memory, normalised and padded with zeros, and multiplies them by the weights,
# which it reads straight from the matrix, once. At the end the warps' products are added up.
_BODY = """
    constexpr int PARTS = GATED ? 2 : 1;
    constexpr int WIDTH = 8 * TILES;
    SHARED T staged[WARPS * ROWS * 32];
    SHARED float partial[WARPS * PARTS * ROWS * WIDTH];
    SHARED float inverse[ROWS];
    const int lane = member % 32, warp = member / 32;
    const int first = group.x * WIDTH;

    if (NORMED) {
        for (int row = warp; row < COUNT; row += WARPS) {
            float square = 0;
            for (int i = lane; i < INPUTS; i += 32) {
                const float value = static_cast<float>(x[row * INPUTS + i]);
                square += value * value;
            }
            square = lane_sum(square);
            if (lane == 0) inverse[row] = rsqrt(square / INPUTS + settings[1]);
        }
        SYNC;
    }
    Product<T, ROWS, TILES, PARTS, INPUTS, OUTPUTS> product;
    auto mine = staged + warp * ROWS * 32;
    for (int input = 32 * warp; input < INPUTS; input += 32 * WARPS) {
        for (int row = 0; row < ROWS; row++) {
            float value = 0;
            if (row < COUNT) {
                value = static_cast<float>(x[row * INPUTS + input + lane]);
                if (NORMED) {
                    const T unit = static_cast<T>(value * inverse[row]);
                    value = static_cast<float>(norm[input + lane]) * static_cast<float>(unit);
                }
            }
            mine[row * 32 + lane] = static_cast<T>(value);
        }
        WARP_SYNC;
        product.add(mine, weight + first * INPUTS + input);
        WARP_SYNC;
    }
    product.store(partial + warp * PARTS * ROWS * WIDTH);
    SYNC;
    for (int i = member; i < COUNT * WIDTH; i += 32 * WARPS) {
        const int row = i / WIDTH, column = i % WIDTH;
        float totals[2] = {0, 0};
        UNROLL
        for (int part = 0; part < PARTS; part++)
            for (int share = 0; share < WARPS; share++)
                totals[part] +=
                    partial[((share * PARTS + part) * ROWS + row) * WIDTH + column];
        const int place = row * OUTPUTS + first + column;
        float result = totals[0];
        if (GATED) {
            const float gate = static_cast<float>(static_cast<T>(totals[0]));
            const float up = static_cast<float>(static_cast<T>(totals[1]));
            result = gate / (1 + exp(-gate)) * up;
        }
        if (ADDS) result = static_cast<float>(residual[place]) + settings[0] * result;
        y[place] = static_cast<T>(result);
    }
"""

# ROWS rows of 32 inputs, in shared memory, times the transpose of rows of the matrix; sums stay in
# registers. The matrix's rows are PARTS blocks of 8 * TILES, which are OUTPUTS rows apart.
_METAL_PRODUCT = """
template <typename T, int ROWS, int TILES, int PARTS, int INPUTS, int OUTPUTS>
struct Product {
    simdgroup_matrix<float, 8, 8> sums[ROWS / 8][PARTS * TILES];

    Product() {
        UNROLL
        for (int row = 0; row < ROWS / 8; row++)
            UNROLL
            for (int tile = 0; tile < PARTS * TILES; tile++)
                sums[row][tile] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    }

    template <typename X, typename W>
    void add(X x, W weight) {
        for (int input = 0; input < 32; input += 8) {
            simdgroup_matrix<T, 8, 8> rows[ROWS / 8];
            UNROLL
            for (int row = 0; row < ROWS / 8; row++)
                simdgroup_load(rows[row], x + 8 * row * 32 + input, 32);
            UNROLL
            for (int tile = 0; tile < PARTS * TILES; tile++) {
                const int output = tile % TILES * 8 + tile / TILES * OUTPUTS;
                simdgroup_matrix<T, 8, 8> columns;
                simdgroup_load(
                    columns, weight + output * INPUTS + input, INPUTS, ulong2(0, 0), true);
                UNROLL
                for (int row = 0; row < ROWS / 8; row++)
                    simdgroup_multiply_accumulate(
                        sums[row][tile], rows[row], columns, sums[row][tile]);
            }
        }
    }

    template <typename Y>
    void store(Y y) {
        UNROLL
        for (int row = 0; row < ROWS / 8; row++)
            UNROLL
            for (int tile = 0; tile < PARTS * TILES; tile++)
                simdgroup_store(
                    sums[row][tile],
                    y + (tile / TILES * ROWS + 8 * row) * 8 * TILES + tile % TILES * 8,
                    8 * TILES);
    }
};
"""

_CUDA_PRODUCT = """
template <typename T, int ROWS, int TILES, int PARTS, int INPUTS, int OUTPUTS>
struct Product {
    nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 32, 8, 16, float> sums[PARTS * TILES];

    __device__ Product() {
        UNROLL
        for (int tile = 0; tile < PARTS * TILES; tile++)
            nvcuda::wmma::fill_fragment(sums[tile], 0.0f);
    }

    template <typename X, typename W>
    __device__ void add(X x, W weight) {
        using namespace nvcuda::wmma;
        for (int input = 0; input < 32; input += 16) {
            fragment<matrix_a, 32, 8, 16, T, row_major> rows;
            load_matrix_sync(rows, x + input, 32);
            UNROLL
            for (int tile = 0; tile < PARTS * TILES; tile++) {
                const int output = tile % TILES * 8 + tile / TILES * OUTPUTS;
                fragment<matrix_b, 32, 8, 16, T, col_major> columns;
                load_matrix_sync(columns, weight + output * INPUTS + input, INPUTS);
                mma_sync(sums[tile], rows, columns, sums[tile]);
            }
        }
    }

    template <typename Y>
    __device__ void store(Y y) {
        UNROLL
        for (int tile = 0; tile < PARTS * TILES; tile++)
            nvcuda::wmma::store_matrix_sync(
                y + tile / TILES * ROWS * 8 * TILES + tile % TILES * 8,
                sums[tile],
                8 * TILES,
                nvcuda::wmma::mem_row_major);
    }
};
"""

KERNEL = CustomKernel(
    "few_rows",
    ("x", "weight", "norm", "residual", "settings"),
    ("y",),
    _BODY,
    metal_header=_METAL_PRODUCT,
    cuda_header=_CUDA_PRODUCT,
    cuda_includes="#include <mma.h>\n",
)

# Of fewer, MLX's product of a matrix and a vector is bound by memory alone.
LEAST_ROWS, MOST_ROWS = 4, 32
_SHARED_BYTES = 32 * 1024  # of a thread group on Metal


@dataclass(frozen=True)
class FewRows:
    """A linear layer without bias: rows (N, in) -> (N, out)."""

    rows: int
    inputs: int
    outputs: int
    """Of the result: the matrix has twice as many rows if the layer is gated."""
    dtype: mx.Dtype
    eps: float | None = None
    """Of the RMSNorm before it, None if there is none."""
    gated: bool = False
    """Whether the result is SwiGLU of the product's two halves."""
    scale: float | None = None
    """Factor of the product before it is added to a residual, None if it is not."""

    @property
    def kernel(self) -> CustomKernel:
        return KERNEL

    @property
    def variants(self) -> list[Variant]:
        """Those that share the outputs among thread groups, and fit the shared memory."""
        found = []
        rows = -(-self.rows // 8) * 8
        for warps, tiles in ((4, 4), (4, 2), (8, 2), (8, 1)):
            width, parts = 8 * tiles, 1 + self.gated
            shared = warps * rows * (parts * width * 4 + 32 * self.dtype.size) + 4 * rows
            if self.outputs % width == 0 and shared <= _SHARED_BYTES:
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
                **{"T": self.dtype, "ROWS": -(-count // 8) * 8 if uses_metal() else MOST_ROWS},
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
