// The names of CUDA that the kernels use.
#pragma once
#include "kernel_stand_in.h"

#define __device__
#define __global__
#define __shared__ SHARED_MEMORY
#define __align__(count) __attribute__((aligned(count)))
#define blockIdx (stand_in::group)
#define threadIdx (stand_in::position())

namespace cuda_kernels {
using namespace stand_in;
using std::exp, std::max, std::sin;

inline void __syncthreads() { wait(AT_GROUP_BARRIER); }
inline void __syncwarp() { wait(AT_WARP_BARRIER); }
inline float __shfl_sync(unsigned, float x, int lane) { return stand_in::from_lane(x, lane); }
inline float __shfl_xor_sync(unsigned, float x, int mask) {
    return stand_in::from_lane(x, (current % 32) ^ mask);
}

namespace nvcuda::wmma {
struct matrix_a;
struct matrix_b;
struct accumulator;
struct row_major;
struct col_major;
enum layout_t { mem_row_major };

template <typename Use, int M, int N, int K, typename T, typename Layout = void>
struct fragment;
template <int M, int N, int K, typename T, typename Layout>
struct fragment<matrix_a, M, N, K, T, Layout> : Matrix<T, M, K> {
    static constexpr bool transposed = std::is_same_v<Layout, col_major>;
};
template <int M, int N, int K, typename T, typename Layout>
struct fragment<matrix_b, M, N, K, T, Layout> : Matrix<T, K, N> {
    static constexpr bool transposed = std::is_same_v<Layout, col_major>;
};
template <int M, int N, int K, typename T>
struct fragment<accumulator, M, N, K, T> : Matrix<T, M, N> {};

template <typename F>
void fill_fragment(F& matrix, float x) {
    for (auto& row : matrix.numbers)
        for (auto& number : row) number = x;
}
template <typename F, typename P>
void load_matrix_sync(F& matrix, P source, unsigned stride) {
    load(matrix, source, stride, F::transposed);
}
template <typename P, typename F>
void store_matrix_sync(P target, const F& matrix, unsigned stride, layout_t) {
    store(matrix, target, stride);
}
template <int M, int N, int K, typename A, typename B>
void mma_sync(
    fragment<accumulator, M, N, K, float>& result, const A& a, const B& b,
    const fragment<accumulator, M, N, K, float>& sum) {
    result = sum;
    multiply_add<M, K, N>(result, a, b);
}
}  // namespace nvcuda::wmma
}  // namespace cuda_kernels
