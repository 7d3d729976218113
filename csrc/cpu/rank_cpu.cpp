// count_tile on the processor, and what the op looks like from Python.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cstdint>

#include "count_tile_op.hpp"

namespace {

using torch::stable::Tensor;

void count_tile(Tensor tile, std::int64_t column, Tensor thresholds, Tensor starts, Tensor low, Tensor high,
                Tensor between, Tensor tied) {
    reid::with_checked_tile(tile, column, thresholds, starts, low, high, between, tied, [&](const auto& problem) {
        for (std::int64_t i = 0; i <= problem.rows; ++i) {
            const std::int64_t least = i == 0 ? 0 : problem.starts[i - 1];
            STD_TORCH_CHECK(least <= problem.starts[i] && problem.starts[i] <= thresholds.size(0), "count_tile: starts[", i,
                            "] is ", problem.starts[i], ", it must lie between ", least, " and ", thresholds.size(0));
        }
        // 32,768 distances a thread at least: fewer are counted before another thread has begun.
        const std::int64_t grain = std::max<std::int64_t>(1, 32768 / std::max<std::int64_t>(1, problem.columns));
        torch::stable::parallel_for(0, problem.rows, grain, [&problem](std::int64_t begin, std::int64_t end) {
            for (std::int64_t row = begin; row < end; ++row) reid::count_row(problem, row);
        });
    });
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(reid_core, m) {
    m.def(
        "count_tile(Tensor tile, int column, Tensor thresholds, Tensor starts, Tensor low, Tensor high, "
        "Tensor(a!) between, Tensor(b!) tied) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(reid_core, CPU, m) { m.impl("count_tile", TORCH_BOX(&count_tile)); }
