// count_tile on CUDA devices. The kernel stands in count_tile_kernel.hpp, where the tests can run it without a GPU.
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>

#include "count_tile_kernel.hpp"
#include "count_tile_op.hpp"

namespace {

using torch::stable::Tensor;

void count_tile(Tensor tile, std::int64_t column, Tensor thresholds, Tensor starts, Tensor low, Tensor high,
                Tensor between, Tensor tied) {
    reid::with_checked_tile(tile, column, thresholds, starts, low, high, between, tied, [&](const auto& problem) {
        const auto device = tile.get_device_index();
        const torch::stable::accelerator::DeviceGuard guard(device);
        void* stream = nullptr;
        STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device, &stream));
        reid::launch_count_tile(problem, static_cast<cudaStream_t>(stream));
        STD_CUDA_KERNEL_LAUNCH_CHECK();
    });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(reid_core, CUDA, m) { m.impl("count_tile", TORCH_BOX(&count_tile)); }
