// Eight neighbouring numbers of a row, what a thread takes at a time: loaded, stored and added up.
#pragma once

#include <cmath>
#include <cstdint>

#include "device.hpp"
#include "half.hpp"

namespace reid {

constexpr int eight = 8;

template <class Number>
__device__ __forceinline__ Number minus_infinity() {
    return -static_cast<Number>(INFINITY);
}

__device__ __forceinline__ float number_of(float value) { return value; }
__device__ __forceinline__ double number_of(double value) { return value; }
__device__ __forceinline__ float number_of(Float16 value) { return __half2float(__ushort_as_half(value.bits)); }
__device__ __forceinline__ float number_of(BFloat16 value) {
    return __bfloat162float(__ushort_as_bfloat16(value.bits));
}

// Rounded to the nearest, ties to even.
__device__ __forceinline__ void round_to(float value, float& out) { out = value; }
__device__ __forceinline__ void round_to(double value, double& out) { out = value; }
__device__ __forceinline__ void round_to(float value, Float16& out) {
    out.bits = __half_as_ushort(__float2half_rn(value));
}
__device__ __forceinline__ void round_to(float value, BFloat16& out) {
    out.bits = __bfloat16_as_ushort(__float2bfloat16_rn(value));
}

// What one instruction moves.
template <class Real>
struct alignas(16) Pack {
    static constexpr int size = 16 / sizeof(Real);
    Real values[size];
};

template <class Real>
__device__ __forceinline__ bool is_aligned(const Real* address) {
    return reinterpret_cast<std::uintptr_t>(address) % 16 == 0;
}

// The first `count` numbers of `from`, and `rest` in the place of those behind them. Alignment decides how they are
// loaded, not which thread gets which; so the place of a row in memory changes no result.
template <class Real, class Number>
__device__ __forceinline__ void load(const Real* from, int count, Number rest, Number (&out)[eight]) {
    if (is_aligned(from) && count >= eight) {
        for (int i = 0; i < eight; i += Pack<Real>::size) {
            const Pack<Real> pack = *reinterpret_cast<const Pack<Real>*>(from + i);
            for (int k = 0; k < Pack<Real>::size; ++k) out[i + k] = number_of(pack.values[k]);
        }
    } else {
        for (int k = 0; k < eight; ++k) out[k] = k < count ? number_of(from[k]) : rest;
    }
}

template <class Real, class Number>
__device__ __forceinline__ void store(const Number (&values)[eight], int count, Real* to) {
    if (is_aligned(to) && count >= eight) {
        for (int i = 0; i < eight; i += Pack<Real>::size) {
            Pack<Real> pack;
            for (int k = 0; k < Pack<Real>::size; ++k) round_to(values[i + k], pack.values[k]);
            *reinterpret_cast<Pack<Real>*>(to + i) = pack;
        }
    } else {
        for (int k = 0; k < eight; ++k)
            if (k < count) round_to(values[k], to[k]);
    }
}

// Three roundings to a sum of eight; longer sums go on in float64.
template <class Number>
__device__ __forceinline__ double sum_of(const Number (&v)[eight]) {
    return ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
}

// A difference without its rounding: `low` is what `high` lacks. (Knuth's TwoSum; compilers must not reorder it.)
template <class Number>
struct Difference {
    Number high;
    Number low;
};

template <class Number>
__device__ __forceinline__ Difference<Number> difference(Number from, Number subtracted) {
    const Number high = from - subtracted;
    const Number back = high - from;
    return {high, (from - (high - back)) - (subtracted + back)};
}

// The same of float64, in the type of Number.
template <class Number>
__device__ __forceinline__ Difference<Number> rounded_difference(double from, double subtracted) {
    const double exact = from - subtracted;
    const auto high = static_cast<Number>(exact);
    return {high, static_cast<Number>(exact - high)};
}

__device__ __forceinline__ float plain_exp(float x) { return expf(x); }
__device__ __forceinline__ double plain_exp(double x) { return exp(x); }

// e to the power of a difference of at most 0. Below the bound it is 0, and `low` may be no number; NaN stays NaN.
template <class Number>
__device__ __forceinline__ Number exponential(const Difference<Number>& x) {
    constexpr Number bound = sizeof(Number) == 4 ? Number(-104) : Number(-746);
    if (x.high < bound) return 0;
    const Number value = plain_exp(x.high);
    return value + value * x.low;
}

}  // namespace reid
