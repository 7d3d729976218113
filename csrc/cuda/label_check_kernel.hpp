// Looks for labels that no class has. The losses' own kernels make such a row NaN; naming it means to wait for the
// device.
#pragma once

#include "row_blocks.hpp"

namespace reid {

struct WrongLabel {
    std::int64_t row;  // the first wrong one's, or -1
    std::int64_t label;
};

// One block.
__global__ void __launch_bounds__(row_threads)
    find_wrong_label_kernel(Column<std::int64_t> labels, std::int64_t rows, std::int64_t classes, WrongLabel* found) {
    REID_SHARED(std::int64_t, first, row_warps);
    std::int64_t row = threadIdx.x;
    for (; row < rows; row += row_threads) {
        const std::int64_t label = labels.first[row * labels.stride];
        if (label < 0 || label >= classes) break;
    }
    if (row > rows) row = rows;
    for (int by = 16; by > 0; by /= 2) {
        const std::int64_t other = __shfl_xor_sync(0xffffffffu, row, by);
        if (other < row) row = other;
    }
    if (threadIdx.x % 32 == 0) first[threadIdx.x / 32] = row;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (const std::int64_t other : first)
        if (other < row) row = other;
    found->row = row < rows ? row : -1;
    found->label = row < rows ? labels.first[row * labels.stride] : 0;
}

inline void launch_find_wrong_label(const Column<std::int64_t>& labels, std::int64_t rows, std::int64_t classes,
                                    WrongLabel* found, cudaStream_t stream) {
    REID_LAUNCH(find_wrong_label_kernel, dim3(1), dim3(row_threads), stream, labels, rows, classes, found);
}

}  // namespace reid
