// How the losses share rows over blocks of threads, and how a block's threads bring their results together. All of it
// comes in one order, so that results are the same bits every time.
#pragma once

#include <climits>
#include <cmath>
#include <cstdint>

#include "eight_numbers.hpp"
#include "loss_problems.hpp"

namespace reid {

constexpr int row_threads = 128;
constexpr int row_warps = row_threads / 32;
constexpr int row_step = row_threads * eight;  // classes that a block takes at a time
constexpr std::int64_t row_share = 8192;       // classes of a block at most: 64 KiB of two networks' float32 logits

// A row's classes in equal parts, a block each. Where a part begins depends on the number of classes alone.
struct Parts {
    int count;
    int size;  // of all but the last, a multiple of eight

    explicit Parts(std::int64_t classes)
        : count(static_cast<int>((classes + row_share - 1) / row_share)),
          size(static_cast<int>(((classes + count - 1) / count + eight - 1) / eight * eight)) {}
};

// The part of a row that this block works on.
struct Part {
    int first;
    int size;

    __device__ Part(const Parts& parts, std::int64_t classes)
        : first(static_cast<int>(blockIdx.y) * parts.size),
          size(static_cast<int>(classes - first < parts.size ? classes - first : parts.size)) {}
};

template <class Real>
__device__ __forceinline__ const Real* row_at(const Rows<Real>& rows, std::int64_t row) {
    return rows.first + row * rows.stride;
}

// The largest number so far and its class; NaN counts as larger than all others, of equal ones the first is kept.
// INT_MAX where nothing is larger than -inf.
template <class Value>
struct Largest {
    Value value = minus_infinity<Value>();
    int place = INT_MAX;

    __device__ __forceinline__ bool is_nan() const { return value != value; }

    // Places come in ascending order.
    __device__ __forceinline__ void see(Value next, int at) {
        if (next > value || (next != next && !is_nan())) {
            value = next;
            place = at;
        }
    }

    // In any order.
    __device__ __forceinline__ void join(Value next, int at) {
        const bool nan = next != next;
        const bool ahead = nan || is_nan() ? nan && (!is_nan() || at < place)
                                           : next > value || (next == value && at < place);
        if (ahead) {
            value = next;
            place = at;
        }
    }

    __device__ __forceinline__ void join_warp() {
        for (int by = 16; by > 0; by /= 2) {
            const Value next = __shfl_xor_sync(0xffffffffu, value, by);
            join(next, __shfl_xor_sync(0xffffffffu, place, by));
        }
    }

    // What differences are taken from: the largest number, or 0 where all are -inf.
    __device__ __forceinline__ Value reference() const { return value == minus_infinity<Value>() ? Value(0) : value; }
};

// The block's largest, for all its threads. `values` and `places` have room for row_warps and are used once.
template <class Value>
__device__ __forceinline__ void join_block(Largest<Value>& largest, Value* values, int* places) {
    largest.join_warp();
    if (threadIdx.x % 32 == 0) {
        values[threadIdx.x / 32] = largest.value;
        places[threadIdx.x / 32] = largest.place;
    }
    __syncthreads();
    for (int warp = 0; warp < row_warps; ++warp) largest.join(values[warp], places[warp]);
}

// The block's sums, for thread 0. `room` is for row_warps * count and used once.
template <int count>
__device__ __forceinline__ void add_block(double (&sums)[count], double* room) {
    for (int i = 0; i < count; ++i) {
        for (int by = 16; by > 0; by /= 2) sums[i] += __shfl_xor_sync(0xffffffffu, sums[i], by);
        if (threadIdx.x % 32 == 0) room[threadIdx.x / 32 * count + i] = sums[i];
    }
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int i = 0; i < count; ++i) {
        sums[i] = room[i];
        for (int warp = 1; warp < row_warps; ++warp) sums[i] += room[warp * count + i];
    }
}

// Calls `use(place, count)` for the eights of this thread: `count` classes from `place` on, counted from the part's
// first.
template <class Use>
__device__ __forceinline__ void each_eight(int size, const Use& use) {
    for (int place = static_cast<int>(threadIdx.x) * eight; place < size; place += row_step)
        use(place, size - place < eight ? size - place : eight);
}

// A row's logits as they are.
template <class Real>
struct PlainLogits {
    using Number = LossOf<Real>;  // exponentials are computed in this type
    using Value = Number;         // and logits compared in this

    // From -inf where there is none.
    template <class Problem>
    __device__ static __forceinline__ void load(const Problem& problem, std::int64_t row, int place, int count,
                                                Value (&z)[eight]) {
        reid::load(row_at(problem.logits, row) + place, count, minus_infinity<Value>(), z);
    }
    template <class Problem>
    __device__ static __forceinline__ Value at(const Problem& problem, std::int64_t row, std::int64_t place) {
        return number_of(row_at(problem.logits, row)[place]);
    }
    __device__ static __forceinline__ Difference<Number> below(Value z, Value reference) {
        return difference(z, reference);
    }
};

// With a shift a class, `problem.shift`, added in float64: a sum in float32 would lose digits where logits are large.
template <class Real>
struct ShiftedLogits {
    using Number = LossOf<Real>;
    using Value = double;

    template <class Problem>
    __device__ static __forceinline__ void load(const Problem& problem, std::int64_t row, int place, int count,
                                                Value (&z)[eight]) {
        Number logits[eight];
        Number shift[eight];
        reid::load(row_at(problem.logits, row) + place, count, minus_infinity<Number>(), logits);
        reid::load(problem.shift + place, count, Number(0), shift);
        for (int i = 0; i < eight; ++i) z[i] = static_cast<double>(logits[i]) + shift[i];
    }
    template <class Problem>
    __device__ static __forceinline__ Value at(const Problem& problem, std::int64_t row, std::int64_t place) {
        return static_cast<double>(number_of(row_at(problem.logits, row)[place])) + problem.shift[place];
    }
    __device__ static __forceinline__ Difference<Number> below(Value z, Value reference) {
        return rounded_difference<Number>(z, reference);
    }
};

// A row's softmax in the backward pass, from the statistics of the forward pass.
template <class Number, class Value = Number>
struct Softmax {
    Value largest;
    Number scale;

    __device__ explicit Softmax(const double* statistics)
        : largest(static_cast<Value>(statistics[0])),
          scale(static_cast<Number>(exp(-statistics[1]))) {}
};

}  // namespace reid
