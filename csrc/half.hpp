// The 16-bit floating point types, by their bits; all arithmetic is done in float32.
#pragma once

#include <cstdint>
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

}  // namespace reid
