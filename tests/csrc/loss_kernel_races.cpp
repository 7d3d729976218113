// The losses' kernels with made-up logits, for sanitizers: prints nothing where all orders of threads give the same
// bits. Every array is a heap block of exactly its size.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "co_refine_kernel.hpp"
#include "confidence_penalty_kernel.hpp"
#include "cross_entropy_kernel.hpp"
#include "label_check_kernel.hpp"
#include "soft_target_kernel.hpp"

namespace {

// Appends the bytes of what was computed.
template <class T>
void keep(std::vector<unsigned char>& bytes, const std::vector<T>& values) {
    const auto* first = reinterpret_cast<const unsigned char*>(values.data());
    bytes.insert(bytes.end(), first, first + values.size() * sizeof(T));
}

template <class Real>
std::vector<unsigned char> all_losses(std::int64_t rows, std::int64_t classes) {
    using Loss = reid::LossOf<Real>;
    const auto size = static_cast<std::size_t>(rows * classes);
    const auto count = static_cast<std::size_t>(rows);
    std::vector<Real> logits[2] = {std::vector<Real>(size), std::vector<Real>(size)}, gradient(size);
    std::vector<Loss> loss(2 * count), grad(count, Loss(0.5)), shift(static_cast<std::size_t>(classes), Loss(0.25));
    std::vector<std::int64_t> labels(count), predictions(2 * count);
    std::vector<double> statistics(6 * count);
    for (std::size_t i = 0; i < size; ++i) {
        reid::round_to(static_cast<Loss>(i * 7919 % 1000) / 64, logits[0][i]);
        reid::round_to(static_cast<Loss>(i * 104729 % 997) / 64, logits[1][i]);
    }
    for (std::size_t i = 0; i < count; ++i) labels[i] = static_cast<std::int64_t>(i) * 31 % classes;
    const std::int64_t parts = reid::Parts(classes).count;
    std::vector<reid::PairPart> pair_parts(static_cast<std::size_t>(parts == 1 ? 0 : 2 * rows * parts));
    std::vector<reid::RowPart> row_parts(static_cast<std::size_t>(parts == 1 ? 0 : rows * parts));
    const reid::Rows<Real> a{logits[0].data(), classes}, b{logits[1].data(), classes};
    const reid::Column<std::int64_t> label{labels.data(), 1};
    const reid::Column<Loss> upstream{grad.data(), 1};
    double* const first = statistics.data();
    std::vector<unsigned char> bytes;
    const auto keep_all = [&] {
        keep(bytes, loss);
        keep(bytes, statistics);
        keep(bytes, gradient);
    };

    reid::launch_co_refine<Real>({rows, classes, {a, b}, 1, 1, 0.5, {loss.data(), loss.data() + rows}, first},
                                 pair_parts.data(), nullptr);
    reid::launch_co_refine_backward<Real>(
        {rows, classes, a, b, first, first + 3 * rows, 1, 1, 0.5, upstream, gradient.data()}, nullptr);
    keep_all();
    for (const Loss* of_class : {static_cast<const Loss*>(nullptr), static_cast<const Loss*>(shift.data())}) {
        reid::launch_cross_entropy<Real>({rows, classes, a, label, of_class, 0.7, 0.3, 0.1, loss.data(), first},
                                         row_parts.data(), nullptr);
        reid::launch_cross_entropy_backward<Real>(
            {rows, classes, a, label, of_class, first, 0.7, 0.3, 0.1, upstream, gradient.data()}, nullptr);
        keep_all();
    }
    reid::launch_soft_target<Real, Real>({rows, classes, a, b, loss.data(), first}, row_parts.data(), nullptr);
    reid::launch_soft_target_backward<Real, Real>({rows, classes, a, b, first, upstream, gradient.data()}, nullptr);
    keep_all();
    reid::launch_confidence_penalty<Real>({rows, classes, a, loss.data(), first}, row_parts.data(), nullptr);
    reid::launch_confidence_penalty_backward<Real>({rows, classes, a, first, upstream, gradient.data()}, nullptr);
    keep_all();
    reid::launch_peer_statistics<Real>({rows, classes, {a, b}, label, loss.data(), predictions.data()},
                                       row_parts.data(), nullptr);
    keep(bytes, loss);
    keep(bytes, predictions);
    reid::WrongLabel wrong{};
    reid::launch_find_wrong_label(label, rows, classes, &wrong, nullptr);
    if (wrong.row != -1) std::printf("a label was taken for a wrong one\n");
    return bytes;
}

template <class Real>
void check(std::int64_t rows, std::int64_t classes) {
    cuda_on_host::seed = 0;
    const auto bytes = all_losses<Real>(rows, classes);
    cuda_on_host::seed = 1;
    if (bytes != all_losses<Real>(rows, classes)) std::printf("%d classes differ\n", static_cast<int>(classes));
}

}  // namespace

// With "threads" only what a type of numbers does not change: who waits for whom.
int main(int count, char** arguments) {
    check<float>(1, 8193);  // two parts
    if (count > 1 && std::strcmp(arguments[1], "threads") == 0) return 0;
    for (const int classes : {1, 33, 1037}) {
        check<float>(2, classes);
        check<double>(2, classes);
        check<reid::BFloat16>(2, classes);
        check<reid::Float16>(2, classes);
    }
}
