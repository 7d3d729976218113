// The 16-bit floating point types, by their bits; all arithmetic is done in float32.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace reid {

struct Float16 {
    std::uint16_t bits;
};

struct BFloat16 {
    std::uint16_t bits;
};

// What a loss over logits of type Real is returned in, and at least what it is computed in.
template <class Real>
using LossOf = std::conditional_t<std::is_same_v<Real, double>, double, float>;

inline float float_of(std::uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
}

inline std::uint32_t bits_of(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    return bits;
}

// Without branches, so that loops over these become vectors.
inline float widen(float value) { return value; }
inline double widen(double value) { return value; }
inline float widen(BFloat16 value) { return float_of(std::uint32_t{value.bits} << 16); }
inline float widen(Float16 value) {
    const std::uint32_t magnitude = std::uint32_t{value.bits & 0x7fffu} << 13;
    const std::uint32_t sign = std::uint32_t{value.bits & 0x8000u} << 16;
    // Times 2^112 moves the exponent, and makes float16's denormal numbers normal ones.
    const std::uint32_t finite = bits_of(float_of(magnitude) * 0x1p112f);
    return float_of(sign | (magnitude >= 0x0f800000u ? magnitude | 0x7f800000u : finite));
}

// Rounded to the nearest, ties to even; NaN stays NaN.
inline void narrow(float value, float& out) { out = value; }
inline void narrow(double value, double& out) { out = value; }
inline void narrow(float value, BFloat16& out) {
    const std::uint32_t bits = bits_of(value);
    const std::uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
    out.bits = static_cast<std::uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
}
inline void narrow(float value, Float16& out) {
    const std::uint32_t sign = bits_of(value) >> 16 & 0x8000u;
    const std::uint32_t bits = bits_of(value) & 0x7fffffffu;
    // Below 2^-14 the sum with 0.5 leaves the rounded number in its last bits; above, the lowest 13 bits are rounded off.
    const std::uint32_t small = bits_of(float_of(bits) + 0.5f) - 0x3f000000u;
    const std::uint32_t large = (bits - 0x38000000u + 0xfffu + (bits >> 13 & 1u)) >> 13;
    const std::uint32_t finite = bits < 0x38800000u ? small : large;
    const std::uint32_t special = bits > 0x7f800000u ? 0x7e00u : 0x7c00u;
    out.bits = static_cast<std::uint16_t>(sign | (bits >= 0x477ff000u ? special : finite));
}

}  // namespace reid
