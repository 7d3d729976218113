// The losses of one network on the processor, and what their ops look like from Python.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <tuple>
#include <vector>

#include "confidence_penalty.hpp"
#include "cross_entropy.hpp"
#include "parallel_rows.hpp"
#include "row_loss_op.hpp"
#include "soft_target.hpp"

namespace {

using reid::MaybeTensor;
using torch::stable::Tensor;

template <bool powers>
struct Solve {
    template <class Problem>
    void operator()(const Problem& problem) const {
        const reid::Isa isa = reid::instruction_set();
        reid::reduce_rows(
            problem.rows, problem.classes,
            [&](std::int64_t row, std::int64_t chunk) { return reid::part_of(problem, row, chunk, isa); },
            [](auto& all, const auto& next) { reid::add_part(all, next, powers); },
            [&](std::int64_t row, const auto& all) { reid::finish_row(problem, row, all); });
    }
};

const auto write_gradients = [](const auto& problem) {
    const reid::Isa isa = reid::instruction_set();
    reid::write_chunks(problem.rows, problem.classes, [&](std::int64_t row, std::int64_t chunk) {
        reid::write_gradient(problem, row, chunk, isa);
    });
};

std::tuple<Tensor, Tensor> cross_entropy(Tensor logits, Tensor labels, MaybeTensor shift, double given, double own,
                                         double smoothing) {
    return reid::cross_entropy_forward(logits, labels, shift, {given, own, smoothing}, Solve<false>{});
}

Tensor cross_entropy_backward(Tensor grad, Tensor logits, Tensor labels, MaybeTensor shift, Tensor statistics, double given,
                              double own, double smoothing) {
    return reid::cross_entropy_gradient(grad, logits, labels, shift, statistics, {given, own, smoothing}, write_gradients);
}

std::tuple<Tensor, Tensor> soft_target_cross_entropy(Tensor logits, Tensor targets) {
    return reid::soft_target_forward(logits, targets, Solve<false>{});
}

Tensor soft_target_cross_entropy_backward(Tensor grad, Tensor logits, Tensor targets, Tensor statistics) {
    return reid::soft_target_gradient(grad, logits, targets, statistics, write_gradients);
}

std::tuple<Tensor, Tensor> confidence_penalty(Tensor logits) {
    return reid::confidence_penalty_forward(logits, Solve<true>{});
}

Tensor confidence_penalty_backward(Tensor grad, Tensor logits, Tensor statistics) {
    return reid::confidence_penalty_gradient(grad, logits, statistics, write_gradients);
}

// Each network's cross-entropy, and the class that its statistics name.
template <class Real>
void solve_peers(const reid::PeerStatistics<Real>& problem) {
    std::vector<double> statistics(static_cast<std::size_t>(3 * problem.rows));
    for (int k = 0; k < 2; ++k) {
        const std::int64_t first = k * problem.rows;
        Solve<false>{}(reid::CrossEntropy<Real>{problem.rows, problem.classes, problem.logits[k], problem.labels, nullptr, 1.0, 0.0,
                                          0.0, problem.losses + first, statistics.data()});
        for (std::int64_t row = 0; row < problem.rows; ++row) {
            problem.predictions[first + row] = static_cast<std::int64_t>(statistics[static_cast<std::size_t>(3 * row + 2)]);
        }
    }
}

std::tuple<Tensor, Tensor> peer_statistics(Tensor a, Tensor b, Tensor labels) {
    return reid::peer_statistics_of(a, b, labels, [](const auto& problem) { solve_peers(problem); });
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(reid_core, m) {
    // Each loss (B,) with what its backward needs of a row, statistics (B, 3).
    m.def(
        "cross_entropy(Tensor logits, Tensor labels, Tensor? shift, float given_weight, float own_weight, float smoothing) "
        "-> (Tensor, Tensor)");
    m.def(
        "cross_entropy_backward(Tensor grad, Tensor logits, Tensor labels, Tensor? shift, Tensor statistics, "
        "float given_weight, float own_weight, float smoothing) -> Tensor");
    m.def("soft_target_cross_entropy(Tensor logits, Tensor targets) -> (Tensor, Tensor)");
    m.def("soft_target_cross_entropy_backward(Tensor grad, Tensor logits, Tensor targets, Tensor statistics) -> Tensor");
    m.def("confidence_penalty(Tensor logits) -> (Tensor, Tensor)");
    m.def("confidence_penalty_backward(Tensor grad, Tensor logits, Tensor statistics) -> Tensor");
    // Losses with the given labels (2, B) and predictions (2, B); no gradient.
    m.def("peer_statistics(Tensor a, Tensor b, Tensor labels) -> (Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(reid_core, CPU, m) {
    m.impl("cross_entropy", TORCH_BOX(&cross_entropy));
    m.impl("cross_entropy_backward", TORCH_BOX(&cross_entropy_backward));
    m.impl("soft_target_cross_entropy", TORCH_BOX(&soft_target_cross_entropy));
    m.impl("soft_target_cross_entropy_backward", TORCH_BOX(&soft_target_cross_entropy_backward));
    m.impl("confidence_penalty", TORCH_BOX(&confidence_penalty));
    m.impl("confidence_penalty_backward", TORCH_BOX(&confidence_penalty_backward));
    m.impl("peer_statistics", TORCH_BOX(&peer_statistics));
}
