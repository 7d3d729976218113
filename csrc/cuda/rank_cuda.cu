// count_tile on CUDA devices. The kernel stands in count_tile_kernel.hpp, where the tests can run it without a GPU.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>

#include "count_tile_kernel.hpp"
#include "count_tile_op.hpp"
#include "on_stream.hpp"

namespace {

using torch::stable::Tensor;

void count_tile(Tensor tile, std::int64_t column, Tensor thresholds, Tensor starts, Tensor low, Tensor high,
                Tensor between, Tensor tied) {
    reid::with_checked_tile(tile, column, thresholds, starts, low, high, between, tied, [&](const auto& problem) {
        reid::on_stream(tile, [&](cudaStream_t stream) { reid::launch_count_tile(problem, stream); });
    });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(reid_core, CUDA, m) { m.impl("count_tile", TORCH_BOX(&count_tile)); }
