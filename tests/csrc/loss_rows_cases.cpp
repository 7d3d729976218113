// The fused losses by themselves against plain sums in float64, with every instruction set of this machine; the tests
// compile this with sanitizers. Every row is a heap block of exactly its size, so that one step outside is a report.
// Prints nothing where all is right.
#include <cmath>
#include <cstdio>
#include <memory>
#include <random>
#include <vector>

#include "co_refine.hpp"
#include "confidence_penalty.hpp"
#include "cross_entropy.hpp"
#include "soft_target.hpp"

namespace {

int wrong = 0;

void expect(const char* what, reid::Isa isa, std::int64_t classes, double found, double wanted, double bar) {
    if (std::abs(found - wanted) <= bar * std::fmax(1, std::abs(wanted)) || (found != found && wanted != wanted)) return;
    if (++wrong < 20) {
        std::printf("%s, %s, %d classes: %.9g, expected %.9g\n", what, reid::isa_name(isa), static_cast<int>(classes), found,
                    wanted);
    }
}

template <class Number>
std::unique_ptr<Number[]> block(std::int64_t size) {
    return std::unique_ptr<Number[]>(new Number[static_cast<std::size_t>(size)]);
}

template <class Real>
std::unique_ptr<Real[]> random_row(std::int64_t classes, std::mt19937& random) {
    std::normal_distribution<float> normal(0, 3);
    auto row = block<Real>(classes);
    for (std::int64_t j = 0; j < classes; ++j) {
        if constexpr (std::is_same_v<Real, double>) row[j] = normal(random);
        else reid::narrow(normal(random), row[j]);
    }
    return row;
}

template <class Real>
std::vector<double> log_probabilities(const Real* row, std::int64_t classes, const reid::LossOf<Real>* shift = nullptr) {
    std::vector<double> logs(static_cast<std::size_t>(classes));
    double largest = -INFINITY, sum = 0;
    for (std::int64_t j = 0; j < classes; ++j) {
        logs[j] = static_cast<double>(reid::widen(row[j])) + (shift ? shift[j] : 0);
        largest = std::fmax(largest, logs[j]);
    }
    for (const double value : logs) sum += std::exp(value - largest);
    for (double& value : logs) value -= largest + std::log(sum);
    return logs;
}

std::int64_t top_of(const std::vector<double>& logs) {
    std::int64_t top = 0;
    for (std::size_t j = 1; j < logs.size(); ++j) top = logs[j] > logs[top] ? static_cast<std::int64_t>(j) : top;
    return top;
}

template <class Problem, class... Rest>
void solve(const Problem& problem, reid::Isa isa, Rest... rest) {
    auto all = reid::part_of(problem, 0, 0, isa);
    for (std::int64_t chunk = 1; chunk < reid::num_chunks(problem.classes); ++chunk) {
        reid::add_part(all, reid::part_of(problem, 0, chunk, isa), rest...);
    }
    reid::finish_row(problem, 0, all);
}

template <class Problem>
void write(const Problem& problem, reid::Isa isa) {
    for (std::int64_t chunk = 0; chunk < reid::num_chunks(problem.classes); ++chunk) {
        reid::write_gradient(problem, 0, chunk, isa);
    }
}

template <class Real>
struct Case {
    using Wide = reid::LossOf<Real>;
    std::int64_t classes;
    reid::Isa isa;
    std::unique_ptr<Real[]> a, b, gradient;
    std::unique_ptr<Wide[]> loss = block<Wide>(2), shift, grad = block<Wide>(1);
    std::unique_ptr<double[]> statistics = block<double>(6);
    std::unique_ptr<std::int64_t[]> label = block<std::int64_t>(1);
    double bar = std::is_same_v<Real, double> ? 1e-12 : 1e-6;
    double gradient_bar = bar + (sizeof(Real) == 2 ? 0.01 : 0);

    Case(std::int64_t size, reid::Isa set, std::mt19937& random)
        : classes(size), isa(set), a(random_row<Real>(size, random)), b(random_row<Real>(size, random)),
          gradient(block<Real>(size)), shift(block<Wide>(size)) {
        for (std::int64_t j = 0; j < size; ++j) shift[j] = static_cast<Wide>(std::log(1.0 + static_cast<double>(j % 40)));
        grad[0] = static_cast<Wide>(0.5);
        label[0] = size / 2;
    }

    template <class Wanted>
    void expect_gradient(const char* what, const Wanted& wanted) {
        for (std::int64_t j = 0; j < classes; ++j) {
            expect(what, isa, classes, reid::widen(gradient[j]), 0.5 * wanted(j), gradient_bar);
        }
    }

    void co_refine() {
        solve(reid::CoRefine<Real>{1, classes, {{a.get(), classes}, {b.get(), classes}}, 0.7, 1, 0.25,
                                   {loss.get(), loss.get() + 1}, statistics.get()}, isa);
        const auto p = log_probabilities(a.get(), classes), q = log_probabilities(b.get(), classes);
        const std::int64_t top = top_of(p), peer_top = top_of(q);
        const double weight = top == peer_top ? 1 : 0.25;
        double losses[2] = {-weight * p[peer_top], -weight * q[top]};
        for (std::int64_t j = 0; j < classes; ++j) {
            losses[0] -= 0.7 * std::exp(q[j]) * p[j];
            losses[1] -= 0.7 * std::exp(p[j]) * q[j];
        }
        expect("co_refine of the first", isa, classes, loss[0], losses[0], bar);
        expect("co_refine of the second", isa, classes, loss[1], losses[1], bar);
        write(reid::CoRefineBackward<Real>{1, classes, {b.get(), classes}, {a.get(), classes}, statistics.get() + 3,
                                           statistics.get(), 0.7, 1, 0.25, {grad.get(), 0}, gradient.get()}, isa);
        expect_gradient("co_refine's gradient", [&](std::int64_t j) {
            return (weight + 0.7) * std::exp(q[j]) - 0.7 * std::exp(p[j]) - (j == top ? weight : 0);
        });
    }

    // Losses are, bit by bit, what they are alone; gradients to a rounding.
    void both_gradients(bool streamed) {
        const reid::Rows<Real> rows[2] = {{a.get(), classes}, {b.get(), classes}};
        const auto problem = [&](Wide* losses, double* sums) {
            return reid::CoRefine<Real>{1, classes, {rows[0], rows[1]}, 0.7, 1, 0.25, {losses, losses + 1}, sums};
        };
        solve(problem(loss.get(), statistics.get()), isa);
        auto first = block<Real>(classes), second = block<Real>(classes);
        auto losses = block<Wide>(2);
        auto sums = block<double>(6);
        streamed = streamed && std::is_same_v<Real, Wide> && reinterpret_cast<std::uintptr_t>(first.get()) % 64 ==
                                                                 reinterpret_cast<std::uintptr_t>(second.get()) % 64;
        reid::CoRefineRow<Wide> room(classes);
        reid::solve_row(reid::CoRefineGradients<Real>{problem(losses.get(), sums.get()), 0.5, {first.get(), second.get()},
                                                      streamed}, 0, room, isa);
        const auto same = [](const auto* one, const auto* other, std::size_t count) {
            return std::memcmp(one, other, sizeof(*one) * count) == 0;
        };
        expect("the same losses", isa, classes, same(losses.get(), loss.get(), 2), 1, 0);
        expect("the same statistics", isa, classes, same(sums.get(), statistics.get(), 6), 1, 0);
        const double *own = statistics.get(), *peer = own + 3;
        for (int k = 0; k < 2; ++k) {
            const Real* found = (k == 0 ? first : second).get();
            write(reid::CoRefineBackward<Real>{1, classes, rows[k], rows[1 - k], k == 0 ? own : peer, k == 0 ? peer : own, 0.7,
                                               1, 0.25, {grad.get(), 0}, gradient.get()}, isa);
            for (std::int64_t j = 0; j < classes; ++j) {
                expect("the same gradient", isa, classes, reid::widen(found[j]), reid::widen(gradient[j]), gradient_bar);
            }
        }
    }

    void cross_entropy(const Wide* with_shift) {
        solve(reid::CrossEntropy<Real>{1, classes, {a.get(), classes}, {label.get(), 1}, with_shift, 0.7, 0.3, 0.1, loss.get(),
                                       statistics.get()}, isa, false);
        const auto p = log_probabilities(a.get(), classes, with_shift);
        const std::int64_t top = static_cast<std::int64_t>(statistics[2]);
        double mean = 0;
        for (const double value : p) mean -= value / static_cast<double>(classes);
        expect("cross-entropy", isa, classes, loss[0], 0.9 * (-0.7 * p[label[0]] - 0.3 * p[top]) + 0.1 * mean, bar);
        write(reid::CrossEntropyBackward<Real>{1, classes, {a.get(), classes}, {label.get(), 1}, with_shift, statistics.get(),
                                               0.7, 0.3, 0.1, {grad.get(), 0}, gradient.get()}, isa);
        expect_gradient("cross-entropy's gradient", [&](std::int64_t j) {
            return std::exp(p[j]) - 0.1 / static_cast<double>(classes) - (j == label[0] ? 0.63 : 0) - (j == top ? 0.27 : 0);
        });
    }

    void soft_target() {
        const auto p = log_probabilities(a.get(), classes);
        auto targets = block<Wide>(classes);
        double wanted = 0, sum = 0;
        for (std::int64_t j = 0; j < classes; ++j) {
            targets[j] = static_cast<Wide>(j % 3) / static_cast<Wide>(classes);
            wanted -= targets[j] * p[j];
            sum += targets[j];
        }
        solve(reid::SoftTarget<Real, Wide>{1, classes, {a.get(), classes}, {targets.get(), classes}, loss.get(),
                                           statistics.get()}, isa, false);
        expect("soft targets", isa, classes, loss[0], wanted, bar);
        write(reid::SoftTargetBackward<Real, Wide>{1, classes, {a.get(), classes}, {targets.get(), classes}, statistics.get(),
                                                   {grad.get(), 0}, gradient.get()}, isa);
        expect_gradient("soft targets' gradient", [&](std::int64_t j) { return sum * std::exp(p[j]) - targets[j]; });
    }

    void penalty() {
        const auto p = log_probabilities(a.get(), classes);
        double wanted = 0;
        for (const double value : p) wanted += std::exp(value) * value;
        solve(reid::ConfidencePenalty<Real>{1, classes, {a.get(), classes}, loss.get(), statistics.get()}, isa, true);
        expect("penalty", isa, classes, loss[0], wanted, bar);
        write(reid::ConfidencePenaltyBackward<Real>{1, classes, {a.get(), classes}, statistics.get(), {grad.get(), 0},
                                                    gradient.get()}, isa);
        expect_gradient("penalty's gradient", [&](std::int64_t j) { return std::exp(p[j]) * (p[j] - wanted); });
    }
};

template <class Real>
void check_losses(reid::Isa isa, std::mt19937& random) {
    for (const std::int64_t classes : {1, 2, 3, 7, 8, 9, 31, 33, 63, 64, 65, 751, 4095, 4096, 4097, 9000}) {
        Case<Real> one(classes, isa, random);
        one.co_refine();
        one.both_gradients(false);
        one.both_gradients(true);
        one.cross_entropy(nullptr);
        one.cross_entropy(one.shift.get());
        one.soft_target();
        one.penalty();
    }
}

// Each 16-bit number survives the way to float32 and back; what lies between two goes to the nearer, ties to the even one.
template <class Half>
void check_half(const char* what, std::uint32_t infinity) {
    for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
        const Half half{static_cast<std::uint16_t>(bits)};
        Half back{};
        const float value = reid::widen(half);
        reid::narrow(value, back);
        const bool is_nan = (bits & 0x7fff) > infinity;
        if (is_nan ? value == value || (back.bits & 0x7fff) <= infinity : back.bits != bits) {
            if (++wrong < 20) std::printf("%s %04x comes back as %04x\n", what, bits, back.bits);
        }
        if ((bits & 0x7fff) + 1 >= infinity) continue;
        const Half next{static_cast<std::uint16_t>(bits + 1)};
        const float upper = reid::widen(next);
        const float middle = value / 2 + upper / 2;
        reid::narrow(middle, back);
        const std::uint32_t even = bits % 2 ? bits + 1 : bits;
        Half below{}, above{};
        reid::narrow(std::nextafter(middle, value), below);
        reid::narrow(std::nextafter(middle, upper), above);
        if (back.bits != even || below.bits != bits || above.bits != bits + 1) {
            if (++wrong < 20) std::printf("%s above %04x: %04x %04x %04x\n", what, bits, below.bits, back.bits, above.bits);
        }
    }
}

}  // namespace

#define REID_BODY "exponential_cases_body.hpp"
#include "each_isa.hpp"
#undef REID_BODY

namespace {

double worst_exponential(reid::Isa isa) {
    using reid::Isa;
    namespace isa_plain = reid::isa_plain;
#if defined(REID_HAS_VECTORS)
    namespace isa_vector128 = reid::isa_vector128;
#endif
#if defined(REID_HAS_AVX)
    namespace isa_avx2 = reid::isa_avx2;
    namespace isa_avx512 = reid::isa_avx512;
#endif
    REID_FOR_ISA(isa, worst_exponential());
}

}  // namespace

int main() {
    std::mt19937 random(7);
    check_half<reid::Float16>("float16", 0x7c00);
    check_half<reid::BFloat16>("bfloat16", 0x7f80);
    for (std::int32_t i = 0; i < reid::num_isas; ++i) {
        const auto isa = static_cast<reid::Isa>(i);
        if (!reid::isa_available(isa)) continue;
        expect("units in the last place of the exponential above 1", isa, 0, std::fmax(1.01, worst_exponential(isa)), 1.01, 0);
        check_losses<float>(isa, random);
        check_losses<double>(isa, random);
        check_losses<reid::BFloat16>(isa, random);
        check_losses<reid::Float16>(isa, random);
    }
    return wrong != 0;
}
