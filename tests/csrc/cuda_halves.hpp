// CUDA's 16-bit floating point numbers on the processor, for cuda_on_host.hpp: by arithmetic, slowly.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

struct __half {
    std::uint16_t bits;
};

struct __nv_bfloat16 {
    std::uint16_t bits;
};

inline __half __ushort_as_half(unsigned short bits) { return {bits}; }
inline unsigned short __half_as_ushort(__half value) { return value.bits; }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) { return {bits}; }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 value) { return value.bits; }

inline float __half2float(__half value) {
    const int exponent = value.bits >> 10 & 31;
    const int mantissa = value.bits & 1023;
    float size = 0;
    if (exponent == 31) {
        size = mantissa ? std::numeric_limits<float>::quiet_NaN() : std::numeric_limits<float>::infinity();
    } else {
        size = std::ldexp(static_cast<float>(exponent ? 1024 + mantissa : mantissa), std::max(exponent, 1) - 25);
    }
    return value.bits >> 15 ? -size : size;
}

inline __half __float2half_rn(float value) {
    const unsigned sign = std::signbit(value) ? 0x8000u : 0;
    if (std::isnan(value)) return {0x7fff};
    const float size = std::fabs(value);
    if (size == 0) return {static_cast<std::uint16_t>(sign)};
    if (size >= 65520.0f) return {static_cast<std::uint16_t>(sign | 0x7c00u)};
    int exponent = 0;
    std::frexp(size, &exponent);
    // Numbers of this size are 2^step apart.
    const int step = std::max(exponent - 11, -24);
    const auto steps = static_cast<unsigned>(std::nearbyint(std::ldexp(size, -step)));
    return {static_cast<std::uint16_t>(sign | ((static_cast<unsigned>(step + 24) << 10) + steps))};
}

inline float __bfloat162float(__nv_bfloat16 value) {
    const std::uint32_t bits = std::uint32_t{value.bits} << 16;
    float all = 0;
    std::memcpy(&all, &bits, sizeof(all));
    return all;
}

inline __nv_bfloat16 __float2bfloat16_rn(float value) {
    if (std::isnan(value)) return {0x7fff};
    std::uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof(bits));
    const std::uint32_t rest = bits & 0xffffu;
    const std::uint32_t kept = bits >> 16;
    const bool up = rest > 0x8000u || (rest == 0x8000u && kept % 2 == 1);
    return {static_cast<std::uint16_t>(kept + up)};
}
