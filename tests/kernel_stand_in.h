// What Metal and CUDA give a kernel, for one core of a CPU: the threads of a group are coroutines
// that run one after another up to the next barrier, in an order that changes from run to run.
#pragma once
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <vector>

// Shared memory of all kernels, which the linker puts side by side.
#define SHARED_MEMORY static __attribute__((section("shared_memory")))
extern "C" __attribute__((visibility("hidden"))) char __start_shared_memory[], __stop_shared_memory[];

namespace stand_in {

struct uint3 {
    unsigned x, y, z;
};

// Thread: running, or waiting for its group or for its warp, or done.
enum State { READY, AT_GROUP_BARRIER, AT_WARP_BARRIER, DONE };

struct Thread {
    ucontext_t context;
    std::unique_ptr<char[]> stack{new char[STACK]};
    State state = READY;
    float sent = 0;
    char purpose = 0;
    static constexpr size_t STACK = 128 * 1024;
};

inline std::vector<Thread> threads;
inline ucontext_t scheduler;
inline int current;
inline uint3 group, threads_per_group;
inline std::function<void()> body;

inline void wait(State state, char purpose = 'b') {
    threads[current].state = state;
    threads[current].purpose = purpose;
    swapcontext(&threads[current].context, &scheduler);
}

inline void start() {
    body();
    threads[current].state = DONE;
}

// Makes the threads in [begin, end) ready if they all wait for the same.
inline bool release(size_t begin, size_t end, State state) {
    for (size_t i = begin; i < end; i++)
        if (threads[i].state != state || threads[i].purpose != threads[begin].purpose) return false;
    for (size_t i = begin; i < end; i++) threads[i].state = READY;
    return true;
}

// Returns false if some threads wait for others that never come.
inline bool run_group(size_t count, std::mt19937& random) {
    if (threads.size() < count) threads.resize(count);
    std::vector<size_t> order(count);
    for (size_t i = 0; i < count; i++) {
        order[i] = i;
        threads[i].state = READY;
        getcontext(&threads[i].context);
        threads[i].context.uc_stack.ss_sp = threads[i].stack.get();
        threads[i].context.uc_stack.ss_size = Thread::STACK;
        threads[i].context.uc_link = &scheduler;
        makecontext(&threads[i].context, start, 0);
    }
    for (bool moves = true; moves;) {
        moves = false;
        std::shuffle(order.begin(), order.end(), random);
        for (size_t i : order) {
            if (threads[i].state != READY) continue;
            moves = true;
            current = i;
            swapcontext(&scheduler, &threads[i].context);
        }
        for (size_t first = 0; first < count; first += 32)
            moves |= release(first, std::min(first + 32, count), AT_WARP_BARRIER);
        moves |= release(0, count, AT_GROUP_BARRIER);
    }
    return std::all_of(order.begin(), order.end(), [](size_t i) {
        return threads[i].state == DONE;
    });
}

// grid: groups; 0 if all went well, 1 if a barrier was not reached by all.
inline int run(const int* grid, const int* group_size, unsigned seed, std::function<void()> kernel) {
    body = std::move(kernel);
    // What is in it before is no number, of any type.
    std::memset(__start_shared_memory, 0xff, __stop_shared_memory - __start_shared_memory);
    threads_per_group = {unsigned(group_size[0]), unsigned(group_size[1]), unsigned(group_size[2])};
    std::mt19937 random(seed);
    const int count = grid[0] * grid[1] * grid[2];
    std::vector<int> order(count);
    for (int i = 0; i < count; i++) order[i] = i;
    std::shuffle(order.begin(), order.end(), random);
    for (int i : order) {
        group = {unsigned(i % grid[0]), unsigned(i / grid[0] % grid[1]),
                 unsigned(i / grid[0] / grid[1])};
        if (!run_group(group_size[0] * group_size[1] * group_size[2], random)) return 1;
    }
    return 0;
}

inline uint3 position() {
    const auto& size = threads_per_group;
    const unsigned i = current;
    return {i % size.x, i / size.x % size.y, i / size.x / size.y};
}

// The number that another lane of the warp sends; both must call it.
inline float from_lane(float x, int lane) {
    threads[current].sent = x;
    wait(AT_WARP_BARRIER, 's');
    const float received = threads[current / 32 * 32 + lane].sent;
    wait(AT_WARP_BARRIER);
    return received;
}

template <typename F>
float over_lanes(float x, char purpose, F combine) {
    threads[current].sent = x;
    wait(AT_WARP_BARRIER, purpose);
    const int first = current / 32 * 32;
    float result = threads[first].sent;
    for (int lane = 1; lane < 32; lane++) result = combine(result, threads[first + lane].sent);
    wait(AT_WARP_BARRIER);
    return result;
}

// Sixteen bits, converted with rounding to the nearest, halves to even.
struct bfloat16 {
    uint16_t bits;
    bfloat16() = default;
    explicit bfloat16(float x) {
        uint32_t whole;
        std::memcpy(&whole, &x, 4);
        bits = (whole + 0x7fff + (whole >> 16 & 1)) >> 16;
    }
    explicit operator float() const {
        const uint32_t whole = uint32_t(bits) << 16;
        float x;
        std::memcpy(&x, &whole, 4);
        return x;
    }
};

struct float16 {
    uint16_t bits;
    float16() = default;
    explicit float16(float x) {
        const bool negative = std::signbit(x);
        const double size = std::fabs(double(x));
        uint16_t found = 0x7c00;
        if (size != size) {
            found = 0x7e00;
        } else if (size < 65520) {
            const int power = size > 0 ? std::max(std::ilogb(size), -14) : -14;
            const double unit = std::ldexp(1.0, power - 10);
            // With the hidden bit, which carries into the exponent.
            const int digits = int(std::nearbyint(size / unit));
            found = digits < 1024 ? digits : (power + 14) * 1024 + digits;
        }
        bits = found | negative << 15;
    }
    explicit operator float() const {
        const int power = bits >> 10 & 31, digits = bits & 1023;
        double size = power ? std::ldexp(1024.0 + digits, power - 25) : std::ldexp(digits, -24);
        if (power == 31) size = digits ? NAN : INFINITY;
        return float(bits >> 15 ? -size : size);
    }
};

// A matrix that the lanes of a warp hold together. Here each lane holds all of it.
template <typename T, int ROWS, int COLUMNS>
struct Matrix {
    T numbers[ROWS][COLUMNS];
};

template <typename M, typename P>
void load(M& matrix, P source, int stride, bool transposed) {
    for (auto& row : matrix.numbers)
        for (auto& number : row) {
            const int i = &row - matrix.numbers, j = &number - row;
            number = transposed ? source[j * stride + i] : source[i * stride + j];
        }
}

template <typename M, typename P>
void store(const M& matrix, P target, int stride) {
    for (auto& row : matrix.numbers)
        for (auto& number : row)
            if (current % 32 == 0) target[(&row - matrix.numbers) * stride + (&number - row)] = number;
}

template <int ROWS, int INNER, int COLUMNS, typename T, typename U>
void multiply_add(
    Matrix<float, ROWS, COLUMNS>& sum, const Matrix<T, ROWS, INNER>& a,
    const Matrix<U, INNER, COLUMNS>& b) {
    for (int i = 0; i < ROWS; i++)
        for (int k = 0; k < INNER; k++) {
            const float factor = static_cast<float>(a.numbers[i][k]);
            for (int j = 0; j < COLUMNS; j++)
                sum.numbers[i][j] += factor * static_cast<float>(b.numbers[k][j]);
        }
}

inline float rsqrt(float x) { return 1 / std::sqrt(x); }

}  // namespace stand_in

using bfloat16_t = stand_in::bfloat16;
using float16_t = stand_in::float16;
using __nv_bfloat16 = stand_in::bfloat16;
using __half = stand_in::float16;
