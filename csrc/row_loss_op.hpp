// Arguments of the ops of one network's losses, and of peer_statistics, for every device.
#pragma once

#include <tuple>

#include "loss_op.hpp"

namespace reid {

using MaybeTensor = std::optional<Tensor>;

inline void check_labels(const char* op, const Tensor& labels, const Tensor& logits) {
    check_column(op, "labels", labels, logits, ScalarType::Long);
    if (!labels.is_cpu()) return;
    const auto* label = static_cast<const std::int64_t*>(labels.const_data_ptr());
    for (std::int64_t row = 0; row < labels.size(0); ++row, label += labels.stride(0)) {
        STD_TORCH_CHECK(0 <= *label && *label < logits.size(1), op, ": labels must lie in [0, ", logits.size(1), "), got ",
                        *label, " at row ", row, "; relabel pids first");
    }
}

struct CrossEntropyWeights {
    double given;
    double own;
    double smoothing;
};

inline void check_cross_entropy(const char* op, const Tensor& logits, const Tensor& labels, const MaybeTensor& shift,
                                const CrossEntropyWeights& weights) {
    check_logits(op, "logits", logits);
    check_labels(op, labels, logits);
    check_weight(op, "given_weight", weights.given);
    check_weight(op, "own_weight", weights.own);
    check_weight(op, "smoothing", weights.smoothing);
    if (!shift) return;
    STD_TORCH_CHECK(shift->dim() == 1 && shift->size(0) == logits.size(1) && shift->is_contiguous(), op,
                    ": the shift must be (", logits.size(1), ",) and contiguous, got ", shape_text(*shift));
    check_type(op, "the shift", *shift, loss_type(logits));
    check_same_device(op, "the shift", *shift, logits);
}

template <class Wide>
const Wide* shift_of(const MaybeTensor& shift) {
    return shift ? static_cast<const Wide*>(shift->const_data_ptr()) : nullptr;
}

template <class Solve>
std::tuple<Tensor, Tensor> cross_entropy_forward(const Tensor& logits, const Tensor& labels, const MaybeTensor& shift,
                                                 const CrossEntropyWeights& weights, const Solve& solve) {
    const char* op = "cross_entropy";
    check_cross_entropy(op, logits, labels, shift, weights);
    const Tensor rows = with_neighbours(logits);
    const Tensor loss = new_tensor(logits, {logits.size(0)}, loss_type(logits));
    const Tensor statistics = new_tensor(logits, {logits.size(0), 3}, ScalarType::Double);
    with_type(op, logits, [&](auto number) {
        using Real = decltype(number);
        using Wide = LossOf<Real>;
        solve(CrossEntropy<Real>{logits.size(0), logits.size(1), rows_of<Real>(rows), column_of<std::int64_t>(labels),
                                 shift_of<Wide>(shift), weights.given, weights.own, weights.smoothing,
                                 loss.mutable_data_ptr<Wide>(), statistics.mutable_data_ptr<double>()});
    });
    return {loss, statistics};
}

template <class Solve>
Tensor cross_entropy_gradient(const Tensor& grad, const Tensor& logits, const Tensor& labels, const MaybeTensor& shift,
                              const Tensor& statistics, const CrossEntropyWeights& weights, const Solve& solve) {
    const char* op = "cross_entropy_backward";
    check_cross_entropy(op, logits, labels, shift, weights);
    check_column(op, "grad", grad, logits, loss_type(logits));
    check_statistics(op, statistics, logits, 1);
    check_classes(op, statistics, logits, !shift);
    const Tensor rows = with_neighbours(logits);
    const Tensor gradient = new_tensor(logits, {logits.size(0), logits.size(1)}, logits.scalar_type());
    with_type(op, logits, [&](auto number) {
        using Real = decltype(number);
        using Wide = LossOf<Real>;
        solve(CrossEntropyBackward<Real>{logits.size(0), logits.size(1), rows_of<Real>(rows), column_of<std::int64_t>(labels),
                                         shift_of<Wide>(shift), statistics.const_data_ptr<double>(), weights.given,
                                         weights.own, weights.smoothing, column_of<Wide>(grad),
                                         static_cast<Real*>(gradient.mutable_data_ptr())});
    });
    return gradient;
}

inline void check_targets(const char* op, const Tensor& logits, const Tensor& targets) {
    check_logits(op, "logits", logits);
    STD_TORCH_CHECK(targets.dim() == 2 && targets.size(0) == logits.size(0) && targets.size(1) == logits.size(1), op,
                    ": logits ", shape_text(logits), " and targets ", shape_text(targets), " must agree in shape");
    STD_TORCH_CHECK(targets.scalar_type() == logits.scalar_type() || targets.scalar_type() == loss_type(logits), op,
                    ": targets must have the type of the logits or of the loss, got ",
                    torch::headeronly::toString(targets.scalar_type()), " for logits of ",
                    torch::headeronly::toString(logits.scalar_type()));
    check_same_device(op, "targets", targets, logits);
}

// Calls `use` with a number of the type of the logits and one of the type of the targets.
template <class Use>
void with_types(const char* op, const Tensor& logits, const Tensor& targets, const Use& use) {
    with_type(op, logits, [&](auto number) {
        if (targets.scalar_type() == logits.scalar_type()) {
            use(number, number);
        } else {
            use(number, LossOf<decltype(number)>{});
        }
    });
}

template <class Solve>
std::tuple<Tensor, Tensor> soft_target_forward(const Tensor& logits, const Tensor& targets, const Solve& solve) {
    const char* op = "soft_target_cross_entropy";
    check_targets(op, logits, targets);
    const Tensor rows = with_neighbours(logits);
    const Tensor target_rows = with_neighbours(targets);
    const Tensor loss = new_tensor(logits, {logits.size(0)}, loss_type(logits));
    const Tensor statistics = new_tensor(logits, {logits.size(0), 3}, ScalarType::Double);
    with_types(op, logits, targets, [&](auto number, auto target) {
        using Real = decltype(number);
        using Target = decltype(target);
        solve(SoftTarget<Real, Target>{logits.size(0), logits.size(1), rows_of<Real>(rows), rows_of<Target>(target_rows),
                                       loss.mutable_data_ptr<LossOf<Real>>(), statistics.mutable_data_ptr<double>()});
    });
    return {loss, statistics};
}

template <class Solve>
Tensor soft_target_gradient(const Tensor& grad, const Tensor& logits, const Tensor& targets, const Tensor& statistics,
                            const Solve& solve) {
    const char* op = "soft_target_cross_entropy_backward";
    check_targets(op, logits, targets);
    check_column(op, "grad", grad, logits, loss_type(logits));
    check_statistics(op, statistics, logits, 1);
    const Tensor rows = with_neighbours(logits);
    const Tensor target_rows = with_neighbours(targets);
    const Tensor gradient = new_tensor(logits, {logits.size(0), logits.size(1)}, logits.scalar_type());
    with_types(op, logits, targets, [&](auto number, auto target) {
        using Real = decltype(number);
        using Target = decltype(target);
        solve(SoftTargetBackward<Real, Target>{logits.size(0), logits.size(1), rows_of<Real>(rows),
                                               rows_of<Target>(target_rows), statistics.const_data_ptr<double>(),
                                               column_of<LossOf<Real>>(grad),
                                               static_cast<Real*>(gradient.mutable_data_ptr())});
    });
    return gradient;
}

template <class Solve>
std::tuple<Tensor, Tensor> confidence_penalty_forward(const Tensor& logits, const Solve& solve) {
    const char* op = "confidence_penalty";
    check_logits(op, "logits", logits);
    const Tensor rows = with_neighbours(logits);
    const Tensor loss = new_tensor(logits, {logits.size(0)}, loss_type(logits));
    const Tensor statistics = new_tensor(logits, {logits.size(0), 3}, ScalarType::Double);
    with_type(op, logits, [&](auto number) {
        using Real = decltype(number);
        solve(ConfidencePenalty<Real>{logits.size(0), logits.size(1), rows_of<Real>(rows),
                                      loss.mutable_data_ptr<LossOf<Real>>(), statistics.mutable_data_ptr<double>()});
    });
    return {loss, statistics};
}

template <class Solve>
Tensor confidence_penalty_gradient(const Tensor& grad, const Tensor& logits, const Tensor& statistics, const Solve& solve) {
    const char* op = "confidence_penalty_backward";
    check_logits(op, "logits", logits);
    check_column(op, "grad", grad, logits, loss_type(logits));
    check_statistics(op, statistics, logits, 1);
    const Tensor rows = with_neighbours(logits);
    const Tensor gradient = new_tensor(logits, {logits.size(0), logits.size(1)}, logits.scalar_type());
    with_type(op, logits, [&](auto number) {
        using Real = decltype(number);
        solve(ConfidencePenaltyBackward<Real>{logits.size(0), logits.size(1), rows_of<Real>(rows),
                                              statistics.const_data_ptr<double>(), column_of<LossOf<Real>>(grad),
                                              static_cast<Real*>(gradient.mutable_data_ptr())});
    });
    return gradient;
}

template <class Solve>
std::tuple<Tensor, Tensor> peer_statistics_of(const Tensor& a, const Tensor& b, const Tensor& labels, const Solve& solve) {
    const char* op = "peer_statistics";
    check_pair(op, a, b);
    check_labels(op, labels, a);
    const Tensor first = with_neighbours(a);
    const Tensor second = with_neighbours(b);
    const Tensor losses = new_tensor(a, {2, a.size(0)}, loss_type(a));
    const Tensor predictions = new_tensor(a, {2, a.size(0)}, ScalarType::Long);
    with_type(op, a, [&](auto number) {
        using Real = decltype(number);
        solve(PeerStatistics<Real>{a.size(0), a.size(1), {rows_of<Real>(first), rows_of<Real>(second)},
                                   column_of<std::int64_t>(labels), losses.mutable_data_ptr<LossOf<Real>>(),
                                   predictions.mutable_data_ptr<std::int64_t>()});
    });
    return {losses, predictions};
}

}  // namespace reid
