// Where torch wants a tensor's kernels to run.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/tensor.h>

#include "device.hpp"

namespace reid {

// Calls `launch` with the current stream of the tensor's device, which is then the current device.
template <class Launch>
void on_stream(const torch::stable::Tensor& tensor, const Launch& launch) {
    const auto device = tensor.get_device_index();
    const torch::stable::accelerator::DeviceGuard guard(device);
    void* stream = nullptr;
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device, &stream));
    launch(static_cast<cudaStream_t>(stream));
    STD_CUDA_KERNEL_LAUNCH_CHECK();
}

}  // namespace reid
