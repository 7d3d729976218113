// Arguments of the co_refine ops, for every device.
#pragma once

#include <tuple>

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

// Losses of one network or of both, and statistics (2, B, 3). `solve` gets the problem.
template <class Solve>
std::tuple<Tensor, Tensor, Tensor> co_refine_forward(const char* op, const Tensor& logits, const Tensor& other, bool both,
                                                     const CoRefineWeights& weights, const Solve& solve) {
    check_pair(op, logits, other);
    check_weights(op, weights);
    const std::int64_t rows = logits.size(0);
    const Tensor first = with_neighbours(logits);
    const Tensor second = with_neighbours(other);
    const Tensor loss = new_tensor(logits, {rows}, loss_type(logits));
    const Tensor other_loss = both ? new_tensor(logits, {rows}, loss_type(logits)) : loss;
    const Tensor statistics = new_tensor(logits, {2, rows, 3}, ScalarType::Double);
    with_type(op, logits, [&](auto number) {
        using Real = decltype(number);
        using Wide = LossOf<Real>;
        solve(CoRefine<Real>{
            rows,
            logits.size(1),
            {rows_of<Real>(first), rows_of<Real>(second)},
            weights.soft,
            weights.agree,
            weights.disagree,
            {loss.mutable_data_ptr<Wide>(), both ? other_loss.mutable_data_ptr<Wide>() : nullptr},
            statistics.mutable_data_ptr<double>(),
        });
    });
    return {loss, other_loss, statistics};
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

// The gradients of both networks, where the gradient of both losses is `grad`.
template <class Solve>
std::tuple<Tensor, Tensor> co_refine_gradients(const Tensor& grad, const Tensor& a, const Tensor& b,
                                               const Tensor& statistics, const CoRefineWeights& weights,
                                               const Solve& solve) {
    const char* op = "co_refine_pair_backward";
    check_backward(op, grad, a, b, statistics, weights);
    const Tensor first = with_neighbours(a);
    const Tensor second = with_neighbours(b);
    const Tensor gradient_a = new_tensor(a, {a.size(0), a.size(1)}, a.scalar_type());
    const Tensor gradient_b = new_tensor(a, {a.size(0), a.size(1)}, a.scalar_type());
    with_type(op, a, [&](auto number) {
        using Real = decltype(number);
        const CoRefineBackward<Real> problems[2] = {
            backward_of<Real>(grad, first, second, statistics, 0, weights, gradient_a),
            backward_of<Real>(grad, second, first, statistics, 1, weights, gradient_b),
        };
        solve(problems);
    });
    return {gradient_a, gradient_b};
}

}  // namespace reid
