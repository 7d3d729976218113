// What threads of a CUDA kernel do together, on the fibres of cuda_threads.hpp: calls for a warp, atomics, shared memory.
// For cuda_on_host.hpp, which says what it is for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>

#include "cuda_threads.hpp"

namespace cuda_on_host {

// A thread's part in a call for the lanes of `mask`: what it gives, and what each of them gave.
inline const std::uint64_t* in_warp(const char* call, unsigned mask, std::uint64_t given, Site site) {
    Launch& launch = *Launch::now;
    Fibre& self = launch.self();
    {
        const Unwatched guard;
        order_before(self.marks + ++self.calls % 2);
        if (!(mask >> self.number % 32 & 1))
            throw KernelError(std::string(call) + " at " + site.text() + ": lane " + std::to_string(self.number % 32) +
                              " is not in its own mask");
        self.call = call;
        self.mask = mask;
        self.given = given;
        launch.wait(State::in_warp, site);
        for (unsigned lane = 0; lane < 32; ++lane)
            if (mask >> lane & 1) order_after(self.heard_marks[lane]);
    }
    return self.heard;
}

template <class T>
std::uint64_t as_bits(T value) {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8);
    std::uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(T));
    return bits;
}

template <class T>
T from_bits(std::uint64_t bits) {
    T value;
    std::memcpy(&value, &bits, sizeof(T));
    return value;
}

// What `lane` of the warp gave.
template <class T>
T shuffled(const char* call, unsigned mask, T value, int width, Site site, int (*source)(int, int, int), int by) {
    const std::uint64_t* heard = in_warp(call, mask, as_bits(value), site);
    const Unwatched guard;
    const int own = static_cast<int>(Launch::now->self().number % 32);
    const int first = own / width * width;
    int lane = source(own - first, by, width);
    lane = lane < 0 || lane >= width ? own : first + lane;
    if (!(mask >> lane & 1))
        throw KernelError(std::string(call) + " at " + site.text() + ": lane " + std::to_string(own) + " reads lane " +
                          std::to_string(lane) + ", which is not in the mask");
    return from_bits<T>(heard[lane]);
}

// Replaces `*address` by `change(*address)` at once, and returns what it was.
template <class T, class Change>
T atomically(T* address, Change change) {
    {
        const Unwatched guard;
        Launch::now->maybe_step_back();
    }
    T old, changed;
    __atomic_load(address, &old, __ATOMIC_RELAXED);
    do {
        changed = change(old);
    } while (!__atomic_compare_exchange(address, &old, &changed, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return old;
}

template <class T, std::size_t count>
struct Shared {
    T (*data)[count] = nullptr;
    std::uint64_t block = 0;
    T (&here())[count] {
        const Unwatched guard;
        if (block != Launch::now->block()) {
            block = Launch::now->block();
            data = static_cast<T(*)[count]>(Launch::now->fresh(sizeof(T) * count));
        }
        return *data;
    }
};

template <class T>
struct Same {
    using type = T;
};

}  // namespace cuda_on_host
