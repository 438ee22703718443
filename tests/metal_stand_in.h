// The names of the Metal Shading Language that the kernels use.
#pragma once
#include "kernel_stand_in.h"

namespace metal_kernels {
using namespace stand_in;
using std::exp, std::max, std::sin;
using ushort = unsigned short;

struct ulong2 {
    ulong2(unsigned long x, unsigned long y) {}
};
enum class mem_flags { mem_threadgroup };

inline void threadgroup_barrier(mem_flags) { wait(AT_GROUP_BARRIER); }
inline void simdgroup_barrier(mem_flags) { wait(AT_WARP_BARRIER); }
inline float simd_sum(float x) { return over_lanes(x, '+', std::plus<float>()); }
inline float simd_max(float x) {
    return over_lanes(x, '>', [](float a, float b) { return std::max(a, b); });
}
inline float simd_shuffle(float x, ushort lane) { return stand_in::from_lane(x, lane); }

template <typename T, int ROWS, int COLUMNS>
using simdgroup_matrix = Matrix<T, ROWS, COLUMNS>;

template <typename T, int ROWS, int COLUMNS>
Matrix<T, ROWS, COLUMNS> make_filled_simdgroup_matrix(T x) {
    Matrix<T, ROWS, COLUMNS> result;
    for (auto& row : result.numbers)
        for (auto& number : row) number = x;
    return result;
}
template <typename M, typename P>
void simdgroup_load(M& matrix, P source, int stride, ulong2 = {0, 0}, bool transposed = false) {
    load(matrix, source, stride, transposed);
}
template <typename M, typename P>
void simdgroup_store(const M& matrix, P target, int stride) {
    store(matrix, target, stride);
}
template <typename A, typename B>
void simdgroup_multiply_accumulate(
    Matrix<float, 8, 8>& result, const A& a, const B& b, const Matrix<float, 8, 8>& sum) {
    result = sum;
    multiply_add(result, a, b);
}
}  // namespace metal_kernels

namespace metal_kernels::metal {}

// Reserved words, which leave nothing where a kernel uses one as a name.
#define thread
#define kernel
#define vertex
#define fragment
#define device
#define constant
#define threadgroup SHARED_MEMORY
#define threadgroup_position_in_grid (stand_in::group)
#define thread_position_in_threadgroup (stand_in::position())
