// Products of all pairs of rows, each added up in one fixed order: entry (i, j) is
//     left[i][0] * right[j][0], then + left[i][1] * right[j][1], then ... , rounded after each step,
// so its bits depend on the two rows and on the instruction set alone. A BLAS chooses the order by where in the matrix an
// entry lies (OpenBLAS on Haswell and Zen sums the first and last eight of a block otherwise than those between), and
// equal images would get unequal distances.
//
// Rows are first packed into panels, once for all products that they take part in: `left_panel` or `right_panel` rows side
// by side, number after number, zeros beyond the last row. Then blocks of 12 x 128 bytes are added up in registers.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "isa.hpp"

namespace reid {

constexpr std::ptrdiff_t left_panel = 12;

template <class Real>
constexpr std::ptrdiff_t right_panel = 128 / static_cast<std::ptrdiff_t>(sizeof(Real));

// Numbers of a row that are worked on before the next: a right panel of these (64 KiB) and `panel_block` left ones (384 KiB)
// stay in the second cache.
template <class Real>
constexpr std::ptrdiff_t depth_block = 2048 / static_cast<std::ptrdiff_t>(sizeof(Real));
constexpr std::ptrdiff_t panel_block = 16;

// Packs the rows `rows[0 .. count)` of a table, `stride` from row to row, each times its factor, into panels of `width`:
// out[panel][number of the row][row in the panel].
template <class Real>
void pack_rows(const Real* table, std::ptrdiff_t stride, const std::int64_t* rows, std::ptrdiff_t count,
               std::ptrdiff_t depth, const Real* factors, std::ptrdiff_t width, Real* out) {
    constexpr std::ptrdiff_t stretch = 256 / static_cast<std::ptrdiff_t>(sizeof(Real));
    // As many rows side by side as have one place in a cache each, though they are a power of two apart.
    constexpr std::ptrdiff_t abreast = 4;
    const Real nothing[stretch] = {};
    for (std::ptrdiff_t first = 0; first < count; first += width, out += depth * width) {
        for (std::ptrdiff_t start = 0; start < depth; start += stretch) {
            const std::ptrdiff_t size = std::min(stretch, depth - start);
            for (std::ptrdiff_t r = 0; r < width; r += abreast) {
                const Real* from[abreast];
                Real factor[abreast];
                for (std::ptrdiff_t i = 0; i < abreast; ++i) {
                    const std::ptrdiff_t place = first + r + i;
                    from[i] = place < count ? table + rows[place] * stride + start : nothing;
                    factor[i] = place < count ? factors[place] : 0;
                }
                Real* to = out + start * width + r;
                for (std::ptrdiff_t k = 0; k < size; ++k, to += width) {
                    for (std::ptrdiff_t i = 0; i < abreast; ++i) to[i] = from[i][k] * factor[i];
                }
            }
        }
    }
}

}  // namespace reid

#define REID_ISA_NAMESPACE product_plain
#include "product_body.hpp"
#undef REID_ISA_NAMESPACE

#if defined(REID_HAS_VECTORS)
#define REID_ISA_NAMESPACE product_vector128
#define REID_VECTOR_BYTES 16
#define REID_BLOCK_ROWS 6
#include "product_body.hpp"
#undef REID_ISA_NAMESPACE
#undef REID_VECTOR_BYTES
#undef REID_BLOCK_ROWS
#endif

#if defined(REID_HAS_AVX)
REID_BEGIN_TARGET("avx2,fma")
#define REID_ISA_NAMESPACE product_avx2
#define REID_VECTOR_BYTES 32
#define REID_BLOCK_ROWS 6
#include "product_body.hpp"
#undef REID_ISA_NAMESPACE
#undef REID_VECTOR_BYTES
#undef REID_BLOCK_ROWS
REID_END_TARGET

#if !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12's own header of AVX-512 is not clean
#endif
REID_BEGIN_TARGET("avx512f,avx512dq")
#define REID_ISA_NAMESPACE product_avx512
#define REID_VECTOR_BYTES 64
#define REID_BLOCK_ROWS 12
#include "product_body.hpp"
#undef REID_ISA_NAMESPACE
#undef REID_VECTOR_BYTES
#undef REID_BLOCK_ROWS
REID_END_TARGET
#if !defined(__clang__)
#pragma GCC diagnostic pop
#endif
#endif

namespace reid {

// out[i * stride + j] = the product of row i of `left` and row j of `right`, both packed.
template <class Real>
void multiply(const Real* left, std::ptrdiff_t rows, const Real* right, std::ptrdiff_t columns, std::ptrdiff_t depth,
              Real* out, std::ptrdiff_t stride, Isa isa) {
    switch (isa) {
#if defined(REID_HAS_AVX)
        case Isa::avx512: return product_avx512::multiply_panels(left, rows, right, columns, depth, out, stride);
        case Isa::avx2: return product_avx2::multiply_panels(left, rows, right, columns, depth, out, stride);
#endif
#if defined(REID_HAS_VECTORS)
        case Isa::vector128: return product_vector128::multiply_panels(left, rows, right, columns, depth, out, stride);
#endif
        default: return product_plain::multiply_panels(left, rows, right, columns, depth, out, stride);
    }
}

}  // namespace reid
