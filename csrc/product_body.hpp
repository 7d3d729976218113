// The part of product.hpp that is compiled once for each instruction set: included with REID_ISA_NAMESPACE set and, unless
// the code is to be plain, REID_VECTOR_BYTES and REID_BLOCK_ROWS, which with two vectors a row fill the registers. No
// include guard, that is the point.

namespace reid {
namespace REID_ISA_NAMESPACE {

#if defined(REID_VECTOR_BYTES)

typedef float Floats __attribute__((vector_size(REID_VECTOR_BYTES)));
typedef double Doubles __attribute__((vector_size(REID_VECTOR_BYTES)));

template <class Real>
struct VectorOf;
template <>
struct VectorOf<float> {
    using Type = Floats;
};
template <>
struct VectorOf<double> {
    using Type = Doubles;
};

template <class Vector, class Real>
inline Vector load(const Real* from) {
    Vector vector;
    std::memcpy(&vector, from, sizeof(vector));
    return vector;
}

// sum + factor * vector: with one rounding where the instruction set can, else with two.
#if REID_VECTOR_BYTES == 64
inline Floats add_product(Floats sum, float factor, Floats vector) {
    return reinterpret_cast<Floats>(_mm512_fmadd_ps(_mm512_set1_ps(factor), reinterpret_cast<__m512>(vector), reinterpret_cast<__m512>(sum)));
}
inline Doubles add_product(Doubles sum, double factor, Doubles vector) {
    return reinterpret_cast<Doubles>(_mm512_fmadd_pd(_mm512_set1_pd(factor), reinterpret_cast<__m512d>(vector), reinterpret_cast<__m512d>(sum)));
}
#elif REID_VECTOR_BYTES == 32
inline Floats add_product(Floats sum, float factor, Floats vector) {
    return reinterpret_cast<Floats>(_mm256_fmadd_ps(_mm256_set1_ps(factor), reinterpret_cast<__m256>(vector), reinterpret_cast<__m256>(sum)));
}
inline Doubles add_product(Doubles sum, double factor, Doubles vector) {
    return reinterpret_cast<Doubles>(_mm256_fmadd_pd(_mm256_set1_pd(factor), reinterpret_cast<__m256d>(vector), reinterpret_cast<__m256d>(sum)));
}
#else
template <class Vector, class Real>
inline Vector add_product(Vector sum, Real factor, Vector vector) {
    return sum + factor * vector;
}
#endif

// Adds `depth` products to a block of `left_panel` x `right_panel` entries, or sets it where there is nothing yet.
template <class Real>
inline void add_block(const Real* left, const Real* right, std::ptrdiff_t depth, Real* out, std::ptrdiff_t stride,
                      bool fresh) {
    using Vector = typename VectorOf<Real>::Type;
    constexpr std::ptrdiff_t lanes = REID_VECTOR_BYTES / sizeof(Real);
    constexpr std::ptrdiff_t width = right_panel<Real>;
    for (std::ptrdiff_t column = 0; column < width; column += 2 * lanes) {
        for (std::ptrdiff_t row = 0; row < left_panel; row += REID_BLOCK_ROWS) {
            Vector sums[REID_BLOCK_ROWS][2];
            for (int i = 0; i < REID_BLOCK_ROWS; ++i) {
                for (int v = 0; v < 2; ++v) {
                    sums[i][v] = fresh ? Vector{} : load<Vector>(out + (row + i) * stride + column + v * lanes);
                }
            }
            const Real* factors = left + row;
            const Real* from = right + column;
            for (std::ptrdiff_t k = 0; k < depth; ++k, factors += left_panel, from += width) {
                const Vector one = load<Vector>(from);
                const Vector other = load<Vector>(from + lanes);
                for (int i = 0; i < REID_BLOCK_ROWS; ++i) {
                    sums[i][0] = add_product(sums[i][0], factors[i], one);
                    sums[i][1] = add_product(sums[i][1], factors[i], other);
                }
            }
            for (int i = 0; i < REID_BLOCK_ROWS; ++i) {
                for (int v = 0; v < 2; ++v) {
                    std::memcpy(out + (row + i) * stride + column + v * lanes, &sums[i][v], sizeof(Vector));
                }
            }
        }
    }
}

#else

template <class Real>
inline void add_block(const Real* left, const Real* right, std::ptrdiff_t depth, Real* out, std::ptrdiff_t stride,
                      bool fresh) {
    constexpr std::ptrdiff_t width = right_panel<Real>;
    for (std::ptrdiff_t i = 0; i < left_panel; ++i) {
        Real sums[width];
        for (std::ptrdiff_t j = 0; j < width; ++j) sums[j] = fresh ? 0 : out[i * stride + j];
        for (std::ptrdiff_t k = 0; k < depth; ++k) {
            const Real factor = left[k * left_panel + i];
            for (std::ptrdiff_t j = 0; j < width; ++j) {
                const Real product = factor * right[k * width + j];
                sums[j] = sums[j] + product;
            }
        }
        for (std::ptrdiff_t j = 0; j < width; ++j) out[i * stride + j] = sums[j];
    }
}

#endif

// The same at the end of rows or columns, where `out` has fewer.
template <class Real>
void add_edge(const Real* left, std::ptrdiff_t rows, const Real* right, std::ptrdiff_t columns, std::ptrdiff_t depth,
              Real* out, std::ptrdiff_t stride, bool fresh) {
    constexpr std::ptrdiff_t width = right_panel<Real>;
    Real whole[left_panel * width] = {};
    for (std::ptrdiff_t i = 0; i < rows && !fresh; ++i) std::copy_n(out + i * stride, columns, whole + i * width);
    add_block(left, right, depth, whole, width, fresh);
    for (std::ptrdiff_t i = 0; i < rows; ++i) std::copy_n(whole + i * width, columns, out + i * stride);
}

template <class Real>
void multiply_panels(const Real* left, std::ptrdiff_t rows, const Real* right, std::ptrdiff_t columns,
                     std::ptrdiff_t depth, Real* out, std::ptrdiff_t stride) {
    constexpr std::ptrdiff_t width = right_panel<Real>;
    constexpr std::ptrdiff_t rows_block = panel_block * left_panel;
    for (std::ptrdiff_t top = 0; top < rows; top += rows_block) {
        const std::ptrdiff_t bottom = std::min(rows, top + rows_block);
        for (std::ptrdiff_t start = 0; start < depth; start += depth_block<Real>) {
            const std::ptrdiff_t now = std::min(depth_block<Real>, depth - start);
            for (std::ptrdiff_t column = 0; column < columns; column += width) {
                const Real* right_now = right + column * depth + start * width;
                for (std::ptrdiff_t row = top; row < bottom; row += left_panel) {
                    const Real* left_now = left + row * depth + start * left_panel;
                    Real* target = out + row * stride + column;
                    if (row + left_panel <= rows && column + width <= columns) {
                        add_block(left_now, right_now, now, target, stride, start == 0);
                    } else {
                        add_edge(left_now, std::min(left_panel, rows - row), right_now, std::min(width, columns - column),
                                 now, target, stride, start == 0);
                    }
                }
            }
        }
    }
}

}  // namespace REID_ISA_NAMESPACE
}  // namespace reid
