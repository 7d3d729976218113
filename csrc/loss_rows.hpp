// What the fused losses share on the processor: rows in chunks, numbers of any type as float32 or float64, sums brought
// together.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "isa.hpp"
#include "loss_problems.hpp"

namespace reid {

// Classes that are worked on at a time: two networks' logits in float32 (32 KiB) stay in the cache.
constexpr std::int64_t loss_chunk = 4096;

}  // namespace reid

#define REID_BODY "convert_body.hpp"
#include "each_isa.hpp"
#undef REID_BODY

namespace reid {

inline std::int64_t num_chunks(std::int64_t classes) { return (classes + loss_chunk - 1) / loss_chunk; }

// Where a chunk of a row begins, and how many classes it has.
struct Span {
    std::int64_t start;
    std::int64_t size;
};
inline Span span_of(std::int64_t chunk, std::int64_t classes) {
    const std::int64_t start = chunk * loss_chunk;
    return {start, std::min(loss_chunk, classes - start)};
}

template <class Real>
const Real* row_of(const Rows<Real>& rows, std::int64_t row) {
    return rows.first + row * rows.stride;
}

template <class Real>
void widen_all(const Real* from, std::int64_t size, float* to, Isa isa) {
    REID_FOR_ISA(isa, widen_all(from, size, to));
}

template <class Real>
void narrow_all(const float* from, std::int64_t size, Real* to, Isa isa) {
    REID_FOR_ISA(isa, narrow_all(from, size, to));
}

// A chunk as float32 or float64: where it lies, or copied.
template <class Real>
struct ChunkBuffer {
    float values[loss_chunk];

    const float* widened(const Real* from, std::int64_t size, Isa isa) {
        values[0] = widen(from[0]);  // no chunk is empty, which compilers do not see
        widen_all(from, size, values, isa);
        return values;
    }
};
template <>
struct ChunkBuffer<float> {
    static const float* widened(const float* from, std::int64_t, Isa) { return from; }
};
template <>
struct ChunkBuffer<double> {
    static const double* widened(const double* from, std::int64_t, Isa) { return from; }
};

// A gradient while it is made: where it belongs, or in a copy that is rounded at the end.
template <class Real>
struct GradientBuffer {
    float values[loss_chunk];

    float* of(Real*) { return values; }
    void store(Real* to, std::int64_t size, Isa isa) const { narrow_all(values, size, to, isa); }
};
template <>
struct GradientBuffer<float> {
    static float* of(float* to) { return to; }
    static void store(float*, std::int64_t, Isa) {}
};
template <>
struct GradientBuffer<double> {
    static double* of(double* to) { return to; }
    static void store(double*, std::int64_t, Isa) {}
};

// Place of the first number for which `wanted` is true, or `size`. A block at a time, which becomes vectors.
template <class Real, class Wanted>
std::int64_t first_place(const Real* values, std::int64_t size, const Wanted& wanted) {
    constexpr std::int64_t block = 64;
    std::int64_t j = 0;
    for (; j + block <= size; j += block) {
        std::int32_t found = 0;
        for (std::int64_t i = 0; i < block; ++i) found += wanted(widen(values[j + i]));
        if (found > 0) break;
    }
    while (j < size && !wanted(widen(values[j]))) ++j;
    return j;
}

// Class of the largest logit, which lies in `chunk`; of equal ones the first. Where there is NaN, and so in the sum of
// exponentials, the first of those.
template <class Real>
std::int64_t top_class(const Real* logits, std::int64_t classes, std::int64_t chunk, LossOf<Real> largest, double sum) {
    if (sum != sum) {
        const std::int64_t place = first_place(logits, classes, [](auto value) { return value != value; });
        if (place < classes) return place;
    }
    const std::int64_t start = chunk * loss_chunk;
    return start + first_place(logits + start, classes - start, [largest](auto value) { return value == largest; });
}

}  // namespace reid
