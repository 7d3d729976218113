// csrc/product.hpp against its definition, with every instruction set of this machine; the tests compile this with
// sanitizers. Every array is a heap block of exactly its size, so that one step outside is a report. Prints nothing where
// all is right.
#include <cmath>
#include <cstdio>
#include <memory>
#include <random>

#include "product.hpp"

namespace {

int wrong = 0;

template <class Real>
void check(std::ptrdiff_t rows, std::ptrdiff_t columns, std::ptrdiff_t depth, reid::Isa isa, std::mt19937& random) {
    std::normal_distribution<Real> normal;
    const auto block = [](std::ptrdiff_t size) { return std::unique_ptr<Real[]>(new Real[static_cast<std::size_t>(size)]); };
    const auto panels = [](std::ptrdiff_t size, std::ptrdiff_t width) { return (size + width - 1) / width * width; };
    const std::ptrdiff_t stride = columns + 1;
    auto left = block(rows * depth), right = block(columns * depth), out = block((rows - 1) * stride + columns);
    for (std::ptrdiff_t k = 0; k < rows * depth; ++k) left[k] = normal(random);
    for (std::ptrdiff_t k = 0; k < columns * depth; ++k) right[k] = normal(random);
    const auto pack = [&](const Real* values, std::ptrdiff_t count, std::ptrdiff_t width, Real* packed) {
        std::unique_ptr<std::int64_t[]> order(new std::int64_t[static_cast<std::size_t>(count)]);
        auto factors = block(count);
        for (std::ptrdiff_t k = 0; k < count; ++k) order[k] = count - 1 - k, factors[k] = Real(k % 3) - 1;
        reid::pack_rows(values, depth, order.get(), count, depth, factors.get(), width, packed);
    };
    constexpr std::ptrdiff_t wide = reid::right_panel<Real>;
    auto packed_left = block(panels(rows, reid::left_panel) * depth), packed_right = block(panels(columns, wide) * depth);
    pack(left.get(), rows, reid::left_panel, packed_left.get());
    pack(right.get(), columns, wide, packed_right.get());
    reid::multiply(packed_left.get(), rows, packed_right.get(), columns, depth, out.get(), stride, isa);
    const bool fused = isa == reid::Isa::avx2 || isa == reid::Isa::avx512;
    for (std::ptrdiff_t i = 0; i < rows; ++i) {
        for (std::ptrdiff_t j = 0; j < columns; ++j) {
            Real sum = 0;
            for (std::ptrdiff_t k = 0; k < depth; ++k) {
                const Real a = left[(rows - 1 - i) * depth + k] * (Real(i % 3) - 1);
                const Real b = right[(columns - 1 - j) * depth + k] * (Real(j % 3) - 1);
                const Real product = a * b;
                sum = fused ? std::fma(a, b, sum) : sum + product;
            }
            if (out[i * stride + j] != sum && !wrong++) {
                std::printf("%s: %td x %td x %td differs at %td, %td: %.9g for %.9g\n", reid::isa_name(isa), rows, columns,
                            depth, i, j, double(out[i * stride + j]), double(sum));
            }
        }
    }
}

}  // namespace

int main() {
    std::mt19937 random(1);
    for (int which = 0; which < reid::num_isas; ++which) {
        const auto isa = static_cast<reid::Isa>(which);
        if (!reid::isa_available(isa)) continue;
        for (const std::ptrdiff_t rows : {1, 11, 12, 25, 193}) {
            for (const std::ptrdiff_t columns : {1, 16, 31, 33}) {
                for (const std::ptrdiff_t depth : {1, 15, 17, 256, 513}) {
                    check<float>(rows, columns, depth, isa, random);
                    check<double>(rows, columns, depth, isa, random);
                }
            }
        }
    }
    return wrong != 0;
}
