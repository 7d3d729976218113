// Small kernels, right and wrong, for test_cuda_on_host.py.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>

#include "device.hpp"

namespace {

constexpr unsigned all = 0xffffffffu;

// Sum of a row by shuffles within warps and one step through shared memory.
__global__ void row_sum(const float* values, int columns, double* out) {
    REID_SHARED(float, of_warps, 32);
    float sum = 0;
    for (int j = static_cast<int>(threadIdx.x); j < columns; j += static_cast<int>(blockDim.x))
        sum += values[static_cast<std::int64_t>(blockIdx.x) * columns + j];
    for (int by = 16; by > 0; by /= 2) sum += __shfl_down_sync(all, sum, by);
    if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x < 32) {
        sum = threadIdx.x < blockDim.x / 32 ? of_warps[threadIdx.x] : 0.0f;
        for (int by = 16; by > 0; by /= 2) sum += __shfl_xor_sync(all, sum, by);
        if (threadIdx.x == 0) out[blockIdx.x] = sum;
    }
}

__global__ void returns_before_barrier(double* out) {
    if (threadIdx.x == 3) return;
    __syncthreads();
    out[threadIdx.x] = 1;
}

__global__ void barrier_in_a_branch(double* out) {
    if (threadIdx.x < 16) __syncthreads();
    out[threadIdx.x] = 1;
}

__global__ void two_barriers(double* out) {
    if (threadIdx.x < 16) {
        __syncthreads();
    } else {
        __syncthreads();
    }
    out[threadIdx.x] = 1;
}

__global__ void barrier_against_shuffle(double* out) {
    if (threadIdx.x < 16) {
        __syncthreads();
    } else {
        out[threadIdx.x] = __shfl_sync(all, 1, 0);
    }
}

__global__ void shuffle_with_the_ended(double* out) {
    if (threadIdx.x == 5) return;
    out[threadIdx.x] = __shfl_sync(all, 1, 0);
}

__global__ void two_calls(double* out) {
    out[threadIdx.x] = threadIdx.x < 16 ? __ballot_sync(all, 1) : __shfl_sync(all, 1u, 0);
}

__global__ void not_in_own_mask(double* out) { out[threadIdx.x] = __ballot_sync(1u, 1); }

__global__ void reads_outside_the_mask(double* out) {
    if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(0xffffu, 1, 20);
}

__global__ void neighbour(double* out, bool with_barrier) {
    REID_SHARED(int, values, 64);
    values[threadIdx.x] = static_cast<int>(threadIdx.x);
    if (with_barrier) __syncthreads();
    out[threadIdx.x] = values[(threadIdx.x + 1) % 64];
}

__global__ void lost_updates(double* out) {
    const double old = out[0];
    atomicAdd(out + 1, 1.0);
    out[0] = old + 1;
}

// Every block adds to what the block before it left.
__global__ void order_of_blocks(double* out) {
    if (threadIdx.x == 0) out[0] = out[0] * 3 + blockIdx.x;
}

__global__ void never_written(double* out) {
    REID_SHARED(float, values, 32);
    if (blockIdx.x == 0) values[threadIdx.x] = 1;
    __syncthreads();
    if (threadIdx.x == 0) out[blockIdx.x] = values[7];
}

__global__ void shuffles(double* out) {
    const int own = static_cast<int>(threadIdx.x);
    out[own] = __shfl_sync(all, own, 9);
    out[32 + own] = __shfl_sync(all, own, 3, 8);
    out[64 + own] = __shfl_up_sync(all, own, 2);
    out[96 + own] = __shfl_down_sync(all, own, 3, 16);
    out[128 + own] = __shfl_xor_sync(all, 0.5 * own, 5);
    out[160 + own] = __ballot_sync(all, own % 3 == 0);
    out[192 + own] = __any_sync(all, own == 31) + 2 * __all_sync(all, own < 32) + 4 * __all_sync(all, own < 31);
    out[224 + own] = __match_any_sync(all, own % 5);
    __syncwarp();
}

__global__ void atomics(double* out, float* single, std::int64_t* whole) {
    atomicAdd(single, 0.5f);
    atomicAdd(reinterpret_cast<unsigned long long*>(whole), 1ull << 33);
    atomicMax(whole + 1, static_cast<std::int64_t>(threadIdx.x));
    atomicMin(whole + 2, -static_cast<std::int64_t>(threadIdx.x));
    if (atomicCAS(whole + 3, 0, 1) == 0) atomicExch(whole + 4, 77);
    __syncthreads();
    if (threadIdx.x == 0) {
        out[0] = *single;
        for (int i = 0; i < 5; ++i) out[1 + i] = static_cast<double>(whole[i]);
    }
}

__global__ void places(double* out) {
    const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    out[block * blockDim.x * blockDim.y * blockDim.z + thread] = 100 * block + thread;
}

// All 65,536 numbers of each 16-bit type, and as many float32 numbers rounded to them.
__global__ void halves(const float* values, double* out) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    const auto bits = static_cast<unsigned short>(i);
    out[i] = __half2float(__ushort_as_half(bits));
    out[65536 + i] = __bfloat162float(__ushort_as_bfloat16(bits));
    out[2 * 65536 + i] = __half_as_ushort(__float2half_rn(values[i]));
    out[3 * 65536 + i] = __bfloat16_as_ushort(__float2bfloat16_rn(values[i]));
}

__global__ void launches(double*) { REID_LAUNCH(order_of_blocks, dim3(1), dim3(1), nullptr, nullptr); }

void run(const std::string& name, const float* values, double* out) {
    float single = 0;
    std::int64_t whole[5] = {};
    const std::map<std::string, void (*)(double*)> plain = {
        {"returns_before_barrier", returns_before_barrier},
        {"barrier_in_a_branch", barrier_in_a_branch},
        {"two_barriers", two_barriers},
        {"barrier_against_shuffle", barrier_against_shuffle},
        {"shuffle_with_the_ended", shuffle_with_the_ended},
        {"two_calls", two_calls},
        {"not_in_own_mask", not_in_own_mask},
        {"reads_outside_the_mask", reads_outside_the_mask},
        {"shuffles", shuffles},
        {"launches", launches},
    };
    if (const auto found = plain.find(name); found != plain.end()) {
        REID_LAUNCH(found->second, dim3(1), dim3(32), nullptr, out);
    } else if (name == "half_a_warp") {
        REID_LAUNCH(shuffles, dim3(1), dim3(16), nullptr, out);
    } else if (name == "row_sum") {
        REID_LAUNCH(row_sum, dim3(17), dim3(256), nullptr, values, 4099, out);
    } else if (name == "halves") {
        REID_LAUNCH(halves, dim3(256), dim3(256), nullptr, values, out);
    } else if (name == "neighbour" || name == "neighbour_at_once") {
        REID_LAUNCH(neighbour, dim3(1), dim3(64), nullptr, out, name == "neighbour");
    } else if (name == "lost_updates") {
        REID_LAUNCH(lost_updates, dim3(1), dim3(64), nullptr, out);
    } else if (name == "order_of_blocks") {
        REID_LAUNCH(order_of_blocks, dim3(4), dim3(2), nullptr, out);
    } else if (name == "never_written") {
        REID_LAUNCH(never_written, dim3(2), dim3(32), nullptr, out);
    } else if (name == "atomics") {
        REID_LAUNCH(atomics, dim3(1), dim3(96), nullptr, out, &single, whole);
    } else if (name == "places") {
        REID_LAUNCH(places, dim3(3, 2, 2), dim3(4, 3, 2), nullptr, out);
    } else if (name == "too_many_threads") {
        REID_LAUNCH(order_of_blocks, dim3(1), dim3(2000), nullptr, out);
    } else if (name == "no_blocks") {
        REID_LAUNCH(order_of_blocks, dim3(0), dim3(32), nullptr, out);
    } else {
        throw std::runtime_error("there is no case " + name);
    }
}

}  // namespace

// An empty message where the kernel ended well.
extern "C" void run_case(const char* name, std::uint64_t seed, const float* values, double* out, char* message, int size) {
    cuda_on_host::seed = seed;
    std::snprintf(message, size, "%s", "");
    try {
        run(name, values, out);
    } catch (const std::exception& error) {
        std::snprintf(message, size, "%s", error.what());
    }
}
