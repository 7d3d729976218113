// count_tile_plain.hpp on a GPU. One block counts one row, or a share of it where there are few rows.
#pragma once

#include <algorithm>
#include <cstdint>

#include "count_tile_plain.hpp"
#include "device.hpp"

namespace reid {

constexpr int count_threads = 256;
constexpr int count_capacity = 1024;     // matches of a row that shared memory holds: 16 KiB in all
constexpr std::int64_t count_blocks = 4096;  // blocks that any GPU is full with

using Wide = decltype(0ULL);  // the 64-bit type that atomicAdd takes

// The first of `size` ascending thresholds that is not below `value`; there is one.
template <class Real, class Place>
__device__ __forceinline__ Place first_not_below(const Real* thresholds, Place size, Real value) {
    Place low = 0;
    Place high = size - 1;
    while (low < high) {
        const Place middle = low + (high - low) / 2;
        if (thresholds[middle] < value) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

// Adds this block's share of a row to `between` and `tied`. Near the front of a ranking most distances of a warp fall
// between the same two matches, so lanes with the same place add up first, and one of them meets memory.
template <class Real, class Place, class Bin>
__device__ __forceinline__ void count_share(const CountTile<Real>& problem, std::int64_t row, const Real* thresholds,
                                            Place size, Bin* between, Bin* tied) {
    const Real* distances = problem.tile + row * problem.stride;
    const Real last = thresholds[size - 1];
    const std::int64_t low = problem.low[row] - problem.column;
    const std::int64_t high = problem.high[row] - problem.column;
    const unsigned lane = threadIdx.x % 32;
    const std::int64_t step = std::int64_t{gridDim.y} * count_threads;
    // All lanes of a warp go round together: the calls for the whole warp need each of them.
    for (std::int64_t base = std::int64_t{blockIdx.y} * count_threads + (threadIdx.x - lane); base < problem.columns;
         base += step) {
        const std::int64_t j = base + lane;
        const bool mine = j < problem.columns && !(low <= j && j < high);
        const Real value = mine ? distances[j] : Real(0);
        const bool counted = mine && value <= last;
        const unsigned lanes = __ballot_sync(0xffffffffu, counted);
        if (counted) {
            const Place place = first_not_below(thresholds, size, value);
            const unsigned same = __match_any_sync(lanes, place);
            const unsigned ties = same & __ballot_sync(lanes, thresholds[place] == value);
            if (lane + 1 == static_cast<unsigned>(__ffs(static_cast<int>(same)))) {
                atomicAdd(between + place, static_cast<Bin>(__popc(same)));
                if (ties != 0) atomicAdd(tied + place, static_cast<Bin>(__popc(ties)));
            }
        }
    }
}

template <class Real>
__global__ void __launch_bounds__(count_threads) count_tile_kernel(const CountTile<Real> problem) {
    REID_SHARED(Real, thresholds, count_capacity);
    REID_SHARED(std::uint32_t, between, count_capacity);
    REID_SHARED(std::uint32_t, tied, count_capacity);
    const std::int64_t row = blockIdx.x;
    const std::int64_t start = problem.starts[row];
    const std::int64_t size = problem.starts[row + 1] - start;
    auto* all_between = reinterpret_cast<Wide*>(problem.between + start);
    auto* all_tied = reinterpret_cast<Wide*>(problem.tied + start);
    if (size <= 0) return;
    if (size > count_capacity) {
        count_share(problem, row, problem.thresholds + start, size, all_between, all_tied);
        return;
    }
    for (unsigned k = threadIdx.x; k < size; k += count_threads) {
        thresholds[k] = problem.thresholds[start + k];
        between[k] = 0;
        tied[k] = 0;
    }
    __syncthreads();
    count_share(problem, row, thresholds, static_cast<int>(size), between, tied);
    __syncthreads();
    for (unsigned k = threadIdx.x; k < size; k += count_threads) {
        if (between[k] != 0) atomicAdd(all_between + k, Wide{between[k]});
        if (tied[k] != 0) atomicAdd(all_tied + k, Wide{tied[k]});
    }
}

// At most 2^31 - 1 rows and as many columns.
template <class Real>
void launch_count_tile(const CountTile<Real>& problem, cudaStream_t stream) {
    if (problem.rows == 0 || problem.columns == 0) return;
    // A share has eight rounds of all threads at least, else reading the matches would cost more than counting.
    const std::int64_t rounds = (problem.columns + count_threads - 1) / count_threads;
    const std::int64_t shares = std::max<std::int64_t>(1, std::min(count_blocks / problem.rows, rounds / 8));
    const dim3 grid(static_cast<unsigned>(problem.rows), static_cast<unsigned>(shares));
    REID_LAUNCH((count_tile_kernel<Real>), grid, dim3(count_threads), stream, problem);
}

}  // namespace reid
