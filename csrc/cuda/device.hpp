// The words of ours that kernels use beside CUDA's own.
//
// nvcc reads this for GPUs. The tests compile the same kernels with the host's compiler and run them on machines without
// a GPU: they define REID_KERNELS_ON_HOST and bring tests/csrc/cuda_on_host.hpp. Nothing that is shipped does.
//
//   REID_SHARED(type, name, count);                   an array in the block's shared memory; `count` is a constant
//   REID_LAUNCH(kernel, grid, block, stream, ...);    the only way to start a kernel; template arguments in brackets:
//                                                     REID_LAUNCH((kernel<float, 4>), ...)
#pragma once

#if defined(REID_KERNELS_ON_HOST)
#include "cuda_on_host.hpp"
#elif defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#define REID_SHARED(type, name, count) __shared__ type name[count]
#define REID_LAUNCH(kernel, grid, block, stream, ...) kernel<<<grid, block, 0, stream>>>(__VA_ARGS__)
#else
#error "kernels are compiled by nvcc, or by the tests"
#endif
