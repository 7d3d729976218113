// Runs CUDA kernels on the processor: for tests alone, on machines without a GPU.
//
// Blocks run one after another, the threads of a block as fibres that change places at barriers, at calls for a whole
// warp and, now and then, at atomics. With a seed, blocks and threads come in a shuffled order: a kernel that is right
// gives the same bits for every seed. What a GPU would answer with a hang or with garbage is a KernelError here: a
// barrier that not all threads of the block reach, different barriers at once, a warp's call without one of its lanes.
// Shared memory is a heap block of exactly its size, filled with 0xff (NaN, -1) for every block of threads, so that
// AddressSanitizer sees steps outside and the results show what was never written. Under ThreadSanitizer every CUDA
// thread counts as one, ordered only by barriers and warps' calls: its reports are the kernel's own races.
//
// Kernels written for csrc/cuda/device.hpp compile unchanged, with what stands under "CUDA's words" below.
#pragma once

#include <cmath>
#include <cstdint>

#include "cuda_halves.hpp"
#include "cuda_sharing.hpp"

// CUDA's words.

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define REID_SHARED(type, name, count)                          \
    static cuda_on_host::Shared<type, (count)> name##_in_block; \
    type(&name)[count] = name##_in_block.here()
#define REID_LAUNCH(kernel, grid, block, stream, ...) \
    (static_cast<void>(stream), cuda_on_host::Launch(grid, block, [&] { kernel(__VA_ARGS__); }).run())

inline void __syncthreads(cuda_on_host::Site site = cuda_on_host::Site::here()) {
    const cuda_on_host::Unwatched guard;
    auto& launch = *cuda_on_host::Launch::now;
    char* const mark = launch.barrier_mark();
    cuda_on_host::order_before(mark);
    launch.self().barriers += 1;
    launch.wait(cuda_on_host::State::at_barrier, site);
    cuda_on_host::order_after(mark);
}

inline void __syncwarp(unsigned mask = 0xffffffffu, cuda_on_host::Site site = cuda_on_host::Site::here()) {
    cuda_on_host::in_warp("__syncwarp", mask, 0, site);
}

template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32, cuda_on_host::Site site = cuda_on_host::Site::here()) {
    const auto from = [](int, int by, int width) { return ((by % width) + width) % width; };
    return cuda_on_host::shuffled("__shfl_sync", mask, value, width, site, from, lane);
}

template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32,
                 cuda_on_host::Site site = cuda_on_host::Site::here()) {
    const auto from = [](int own, int by, int) { return own - by; };
    return cuda_on_host::shuffled("__shfl_up_sync", mask, value, width, site, from, static_cast<int>(by));
}

template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32,
                   cuda_on_host::Site site = cuda_on_host::Site::here()) {
    const auto from = [](int own, int by, int) { return own + by; };
    return cuda_on_host::shuffled("__shfl_down_sync", mask, value, width, site, from, static_cast<int>(by));
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int by, int width = 32, cuda_on_host::Site site = cuda_on_host::Site::here()) {
    const auto from = [](int own, int by, int) { return own ^ by; };
    return cuda_on_host::shuffled("__shfl_xor_sync", mask, value, width, site, from, by);
}

inline unsigned __ballot_sync(unsigned mask, int yes, cuda_on_host::Site site = cuda_on_host::Site::here()) {
    const std::uint64_t* heard = cuda_on_host::in_warp("__ballot_sync", mask, yes != 0, site);
    const cuda_on_host::Unwatched guard;
    unsigned all = 0;
    for (unsigned lane = 0; lane < 32; ++lane) all |= (mask >> lane & 1 & static_cast<unsigned>(heard[lane])) << lane;
    return all;
}

inline int __any_sync(unsigned mask, int yes, cuda_on_host::Site site = cuda_on_host::Site::here()) {
    return __ballot_sync(mask, yes, site) != 0;
}

inline int __all_sync(unsigned mask, int yes, cuda_on_host::Site site = cuda_on_host::Site::here()) {
    return __ballot_sync(mask, yes, site) == mask;
}

template <class T>
unsigned __match_any_sync(unsigned mask, T value, cuda_on_host::Site site = cuda_on_host::Site::here()) {
    const std::uint64_t own = cuda_on_host::as_bits(value);
    const std::uint64_t* heard = cuda_on_host::in_warp("__match_any_sync", mask, own, site);
    const cuda_on_host::Unwatched guard;
    unsigned same = 0;
    for (unsigned lane = 0; lane < 32; ++lane)
        if ((mask >> lane & 1) && heard[lane] == own) same |= 1u << lane;
    return same;
}

template <class T>
T atomicAdd(T* address, typename cuda_on_host::Same<T>::type value) {
    return cuda_on_host::atomically(address, [=](T old) { return static_cast<T>(old + value); });
}

template <class T>
T atomicMax(T* address, typename cuda_on_host::Same<T>::type value) {
    return cuda_on_host::atomically(address, [=](T old) { return old < value ? value : old; });
}

template <class T>
T atomicMin(T* address, typename cuda_on_host::Same<T>::type value) {
    return cuda_on_host::atomically(address, [=](T old) { return value < old ? value : old; });
}

template <class T>
T atomicExch(T* address, typename cuda_on_host::Same<T>::type value) {
    return cuda_on_host::atomically(address, [=](T) { return value; });
}

template <class T>
T atomicCAS(T* address, typename cuda_on_host::Same<T>::type expected, typename cuda_on_host::Same<T>::type value) {
    return cuda_on_host::atomically(address, [=](T old) { return old == expected ? value : old; });
}

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __clz(int bits) { return bits == 0 ? 32 : __builtin_clz(static_cast<unsigned>(bits)); }
