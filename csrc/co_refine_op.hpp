// Arguments of the co_refine ops, for every device.
#pragma once

#include <limits>
#include <optional>
#include <tuple>
#include <type_traits>

#include "loss_op.hpp"

namespace reid {

struct CoRefineWeights {
    double soft;
    double agree;
    double disagree;
};

inline void check_weights(const char* op, const CoRefineWeights& weights) {
    check_weight(op, "soft_weight", weights.soft);
    check_weight(op, "agree_weight", weights.agree);
    check_weight(op, "disagree_weight", weights.disagree);
}

// What the forward pass of one network or of both gives: losses and statistics (2, B, 3).
struct CoRefineLosses {
    Tensor first;
    Tensor second;
    Tensor statistics;
};

template <class Real>
CoRefine<Real> problem_of(const Tensor& logits, const Tensor& other, const CoRefineWeights& weights,
                          const CoRefineLosses& losses, bool both) {
    using Wide = LossOf<Real>;
    return {
        logits.size(0),
        logits.size(1),
        {rows_of<Real>(logits), rows_of<Real>(other)},
        weights.soft,
        weights.agree,
        weights.disagree,
        {losses.first.mutable_data_ptr<Wide>(), both ? losses.second.mutable_data_ptr<Wide>() : nullptr},
        losses.statistics.mutable_data_ptr<double>(),
    };
}

inline CoRefineLosses new_losses(const Tensor& logits, bool both) {
    const std::int64_t rows = logits.size(0);
    const Tensor first = new_tensor(logits, {rows}, loss_type(logits));
    return {first, both ? new_tensor(logits, {rows}, loss_type(logits)) : first,
            new_tensor(logits, {2, rows, 3}, ScalarType::Double)};
}

// Losses of one network or of both, and statistics. `solve` gets the problem.
template <class Solve>
std::tuple<Tensor, Tensor, Tensor> co_refine_forward(const char* op, const Tensor& logits, const Tensor& other, bool both,
                                                     const CoRefineWeights& weights, const Solve& solve) {
    check_pair(op, logits, other);
    check_weights(op, weights);
    const Tensor first = with_neighbours(logits);
    const Tensor second = with_neighbours(other);
    const CoRefineLosses losses = new_losses(logits, both);
    with_type(op, logits, [&](auto number) {
        solve(problem_of<decltype(number)>(first, second, weights, losses, both));
    });
    return {losses.first, losses.second, losses.statistics};
}

inline void check_gradient(const char* op, const char* name, const Tensor& gradient, const Tensor& logits) {
    STD_TORCH_CHECK(gradient.dim() == 2 && gradient.size(0) == logits.size(0) && gradient.size(1) == logits.size(1) &&
                        gradient.is_contiguous(),
                    op, ": ", name, " must be contiguous and ", shape_text(logits), ", got ", shape_text(gradient));
    check_type(op, name, gradient, logits.scalar_type());
    check_same_device(op, name, gradient, logits);
}

// The mean of (B,) losses, without dimensions, summed in float64 in their order; NaN of none, as torch has it.
template <class Wide>
Tensor mean_of(const Tensor& losses) {
    const std::int64_t rows = losses.size(0);
    const Wide* values = losses.const_data_ptr<Wide>();
    double sum = 0;
    for (std::int64_t row = 0; row < rows; ++row) sum += values[row];
    const Tensor mean = new_tensor(losses, {}, losses.scalar_type());
    mean.mutable_data_ptr<Wide>()[0] = static_cast<Wide>(sum / static_cast<double>(rows));
    return mean;
}

// Forward and backward of both networks at once: their losses, the mean of each, and the statistics; the gradients of the
// means are filled in.
template <class Solve>
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> co_refine_both_passes(
    const char* op, const Tensor& a, const Tensor& b, const Tensor& gradient_a, const Tensor& gradient_b,
    const CoRefineWeights& weights, const Solve& solve) {
    check_pair(op, a, b);
    check_weights(op, weights);
    check_gradient(op, "gradient_a", gradient_a, a);
    check_gradient(op, "gradient_b", gradient_b, a);
    const std::int64_t rows = a.size(0), classes = a.size(1);
    const Tensor first = with_neighbours(a);
    const Tensor second = with_neighbours(b);
    const CoRefineLosses losses = new_losses(a, true);
    std::optional<Tensor> means[2];
    with_type(op, a, [&](auto number) {
        using Real = decltype(number);
        // As the gradient of a mean is, in the type of the losses.
        const double grad = static_cast<LossOf<Real>>(1.0 / static_cast<double>(std::max<std::int64_t>(1, rows)));
        Real* gradients[2] = {static_cast<Real*>(gradient_a.mutable_data_ptr()),
                              static_cast<Real*>(gradient_b.mutable_data_ptr())};
        const auto place = [&](int k) { return reinterpret_cast<std::uintptr_t>(gradients[k]) % 64; };
        const bool large = 2 * rows * classes * std::int64_t{sizeof(Real)} > stream_bytes;
        solve(CoRefineGradients<Real>{problem_of<Real>(first, second, weights, losses, true),
                                      grad,
                                      {gradients[0], gradients[1]},
                                      large && place(0) == place(1) && std::is_same_v<Real, LossOf<Real>>});
        means[0] = mean_of<LossOf<Real>>(losses.first);
        means[1] = mean_of<LossOf<Real>>(losses.second);
    });
    return {losses.first, losses.second, *means[0], *means[1], losses.statistics};
}

// The gradient of (B) losses as a multiple of a mean's, 1 / B in their type; NaN where they do not count the same.
template <class Real>
double mean_scale(const Column<Real>& grad, std::int64_t rows) {
    const Real first = rows > 0 ? grad.first[0] : Real{1};
    for (std::int64_t row = 1; row < rows; ++row) {
        if (!(grad.first[row * grad.stride] == first)) return std::numeric_limits<double>::quiet_NaN();
    }
    const Real mean = static_cast<Real>(1.0 / static_cast<double>(std::max<std::int64_t>(1, rows)));
    return rows > 0 ? static_cast<double>(first) / static_cast<double>(mean) : 1.0;
}

inline double mean_scale(const char* op, const Tensor& grad) {
    STD_TORCH_CHECK(grad.dim() == 1 && grad.is_cpu(), op, ": grad must be (B,) on the CPU, got ", shape_text(grad), " on ",
                    device_text(grad));
    if (grad.scalar_type() == ScalarType::Double) return mean_scale(column_of<double>(grad), grad.size(0));
    check_type(op, "grad", grad, ScalarType::Float);
    return mean_scale(column_of<float>(grad), grad.size(0));
}

inline void check_backward(const char* op, const Tensor& grad, const Tensor& logits, const Tensor& peer,
                           const Tensor& statistics, const CoRefineWeights& weights) {
    check_pair(op, logits, peer);
    check_weights(op, weights);
    check_column(op, "grad", grad, logits, loss_type(logits));
    check_statistics(op, statistics, logits, 2);
    check_classes(op, statistics, logits, true);
}

// Network `learner` is 0 or 1 as in the forward pass; all tensors are checked, classes are neighbours.
template <class Real>
CoRefineBackward<Real> backward_of(const Tensor& grad, const Tensor& logits, const Tensor& peer, const Tensor& statistics,
                                   std::int64_t learner, const CoRefineWeights& weights, const Tensor& gradient) {
    const std::int64_t rows = logits.size(0);
    const double* first = statistics.const_data_ptr<double>();
    return {
        rows,
        logits.size(1),
        rows_of<Real>(logits),
        rows_of<Real>(peer),
        first + learner * rows * 3,
        first + (1 - learner) * rows * 3,
        weights.soft,
        weights.agree,
        weights.disagree,
        column_of<LossOf<Real>>(grad),
        static_cast<Real*>(gradient.mutable_data_ptr()),
    };
}

// The gradient for the logits of one network.
template <class Solve>
Tensor co_refine_gradient(const Tensor& grad, const Tensor& logits, const Tensor& peer, const Tensor& statistics,
                          std::int64_t learner, const CoRefineWeights& weights, const Solve& solve) {
    const char* op = "co_refine_backward";
    check_backward(op, grad, logits, peer, statistics, weights);
    STD_TORCH_CHECK(learner == 0 || learner == 1, op, ": learner must be 0 or 1, got ", learner);
    const Tensor own = with_neighbours(logits);
    const Tensor other = with_neighbours(peer);
    const Tensor gradient = new_tensor(logits, {logits.size(0), logits.size(1)}, logits.scalar_type());
    with_type(op, logits, [&](auto number) {
        solve(backward_of<decltype(number)>(grad, own, other, statistics, learner, weights, gradient));
    });
    return gradient;
}

}  // namespace reid
