"""Source of the kernel for a linear layer of few rows, with products of either backend."""

from __future__ import annotations

from .kernel import CustomKernel

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
# registers. The matrix's rows are PARTS blocks of 8 * TILES, which are OUTPUTS rows apart. From
# Metal 4.1 on, functions of a struct have to say that it lies in a thread's own memory.
_METAL_PRODUCT = """
template <typename T, int ROWS, int TILES, int PARTS, int INPUTS, int OUTPUTS>
struct Product {
    simdgroup_matrix<float, 8, 8> sums[ROWS / 8][PARTS * TILES];

    Product() thread {
        UNROLL
        for (int row = 0; row < ROWS / 8; row++)
            UNROLL
            for (int tile = 0; tile < PARTS * TILES; tile++)
                sums[row][tile] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    }

    template <typename X, typename W>
    void add(X x, W weight) thread {
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
    void store(Y y) thread {
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
