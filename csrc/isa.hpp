// Instruction sets that kernels are compiled for, and which of them this machine has.
//
// One binary serves every processor of an architecture, so the choice is made at run time and nothing is compiled with
// -march=native. Kernels are written once, with the vectors of GCC and Clang, and included once for each set.
#pragma once

#include <cstdint>
#include <initializer_list>

// REID_PLAIN_ONLY builds what a compiler without these vectors would.
#if (defined(__GNUC__) || defined(__clang__)) && !defined(REID_PLAIN_ONLY)
#define REID_HAS_VECTORS 1
#if defined(__x86_64__)
#define REID_HAS_AVX 1
#include <immintrin.h>
#endif
#endif

// Everything between REID_BEGIN_TARGET("avx2") and REID_END_TARGET is compiled for that instruction set.
#if defined(__clang__)
#define REID_PRAGMA(text) _Pragma(#text)
#define REID_BEGIN_TARGET(name) REID_PRAGMA(clang attribute push(__attribute__((target(name))), apply_to = function))
#define REID_END_TARGET _Pragma("clang attribute pop")
#elif defined(__GNUC__)
#define REID_PRAGMA(text) _Pragma(#text)
#define REID_BEGIN_TARGET(name) _Pragma("GCC push_options") REID_PRAGMA(GCC target(name))
#define REID_END_TARGET _Pragma("GCC pop_options")
#endif

namespace reid {

// Asks for memory that will be read soon; it may lie anywhere, also where there is none.
inline void prefetch([[maybe_unused]] const void* address) {
#if defined(REID_HAS_VECTORS)
    __builtin_prefetch(address);
#endif
}

// What this thread has written past the cache is seen by others from here on.
inline void finish_streams() {
#if defined(REID_HAS_AVX)
    _mm_sfence();
#endif
}

// plain: one number at a time, for any compiler. vector128: what every processor of the architecture has, SSE2 on
// x86-64 and NEON on ARM.
enum class Isa : std::int32_t { plain = 0, vector128 = 1, avx2 = 2, avx512 = 3 };

constexpr std::int32_t num_isas = 4;

inline const char* isa_name(Isa isa) {
    switch (isa) {
        case Isa::plain: return "plain";
#if defined(__aarch64__) || defined(__ARM_NEON)
        case Isa::vector128: return "neon";
#elif defined(__x86_64__) || defined(__SSE2__)
        case Isa::vector128: return "sse2";
#else
        case Isa::vector128: return "vector128";
#endif
        case Isa::avx2: return "avx2";
        case Isa::avx512: return "avx512";
    }
    return "unknown";
}

// Compiled in, and this processor and its operating system run it.
inline bool isa_available(Isa isa) {
    switch (isa) {
        case Isa::plain: return true;
#if defined(REID_HAS_VECTORS)
        case Isa::vector128: return true;
#endif
#if defined(REID_HAS_AVX)
        case Isa::avx2: return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0;
        case Isa::avx512:
            return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512dq") != 0;
#endif
        default: return false;
    }
}

inline Isa best_isa() {
    for (const Isa isa : {Isa::avx512, Isa::avx2, Isa::vector128}) {
        if (isa_available(isa)) return isa;
    }
    return Isa::plain;
}

}  // namespace reid
