// Cross-entropy with labels, with the own prediction and with all classes alike, and what networks choose each other's
// samples by; the problems are in loss_problems.hpp. A label outside the classes makes its row NaN and reads nothing.
#pragma once

#include "row_loss_kernel.hpp"

namespace reid {

// Cross-entropy with a label, from the row's sums.
template <class Logits, class Problem>
__device__ double cross_entropy_with_label(const Problem& problem, std::int64_t row, const RowSums& sums) {
    const std::int64_t label = problem.labels.first[row * problem.labels.stride];
    if (label < 0 || label >= problem.classes) return NAN;
    return sums.log_sum - (static_cast<double>(Logits::at(problem, row, label)) - sums.largest);
}

template <class Real, class LogitsOf>
struct CrossEntropyLoss {
    using Logits = LogitsOf;
    using Number = typename Logits::Number;
    static constexpr bool mass_is_exponential = false;
    CrossEntropy<Real> problem;

    // For the mean over classes: terms are z - largest.
    __device__ __forceinline__ void add(std::int64_t, int, int count, const Difference<Number> (&below)[eight],
                                        const Number (&)[eight], double& mass, double& terms) const {
        if (problem.smoothing == 0) return;
        Number differences[eight];
        for (int i = 0; i < eight; ++i) differences[i] = i < count ? below[i].high : Number(0);
        mass += count;
        terms += sum_of(differences);
    }

    __device__ void finish(std::int64_t row, const RowSums& sums) const {
        const double given = (1 - problem.smoothing) * problem.given_weight;
        const double own = (1 - problem.smoothing) * problem.own_weight;
        // The own prediction's logit is the largest. Where its weight is 0, what may be infinite is left out.
        double loss = own * sums.log_sum;
        if (problem.given_weight != 0) loss += given * cross_entropy_with_label<Logits>(problem, row, sums);
        if (problem.smoothing != 0)
            loss += problem.smoothing * (sums.log_sum - sums.terms / static_cast<double>(problem.classes));
        problem.loss[row] = static_cast<LossOf<Real>>(loss);
        double* statistics = problem.statistics + 3 * row;
        statistics[0] = sums.largest;
        statistics[1] = sums.log_sum;
        statistics[2] = sums.top;
    }
};

template <class Real, class LogitsOf>
struct CrossEntropyGradient {
    using Logits = LogitsOf;
    using Number = typename Logits::Number;
    CrossEntropyBackward<Real> problem;

    struct Row {
        Number grad;
        Number all;
        Number given;
        Number own;
        Number alike;
        std::int64_t label;
        std::int64_t top;

        __device__ Row(const CrossEntropyBackward<Real>& problem, std::int64_t row)
            : grad(problem.grad.first[row * problem.grad.stride]),
              all(static_cast<Number>((1 - problem.smoothing) * (problem.given_weight + problem.own_weight) +
                                      problem.smoothing)),
              given(static_cast<Number>((1 - problem.smoothing) * problem.given_weight)),
              own(static_cast<Number>((1 - problem.smoothing) * problem.own_weight)),
              alike(static_cast<Number>(problem.smoothing / static_cast<double>(problem.classes))),
              label(problem.labels.first[row * problem.labels.stride]),
              top(static_cast<std::int64_t>(problem.statistics[3 * row + 2])) {
            if (problem.given_weight != 0 && (label < 0 || label >= problem.classes)) grad = static_cast<Number>(NAN);
        }
    };

    __device__ __forceinline__ void of(std::int64_t, int place, int, const Row& row,
                                       const Difference<Number> (&)[eight], Number (&p)[eight]) const {
        for (int i = 0; i < eight; ++i) {
            const Number wanted = row.alike + (place + i == row.label ? row.given : Number(0)) +
                                  (place + i == row.top ? row.own : Number(0));
            p[i] = row.grad * (row.all * p[i] - wanted);
        }
    }
};

// One network's part of PeerStatistics.
template <class Real>
struct PeerLoss {
    struct Problem {
        std::int64_t rows;
        std::int64_t classes;
        Rows<Real> logits;
        Column<std::int64_t> labels;
        LossOf<Real>* loss;
        std::int64_t* prediction;
    };
    using Logits = PlainLogits<Real>;
    using Number = typename Logits::Number;
    static constexpr bool mass_is_exponential = false;
    Problem problem;

    __device__ __forceinline__ void add(std::int64_t, int, int, const Difference<Number> (&)[eight],
                                        const Number (&)[eight], double&, double&) const {}

    __device__ void finish(std::int64_t row, const RowSums& sums) const {
        problem.loss[row] = static_cast<LossOf<Real>>(cross_entropy_with_label<Logits>(problem, row, sums));
        problem.prediction[row] = sums.top;
    }
};

template <class Real>
void launch_cross_entropy(const CrossEntropy<Real>& problem, RowPart* parts, cudaStream_t stream) {
    if (problem.shift == nullptr) {
        launch_row_loss(CrossEntropyLoss<Real, PlainLogits<Real>>{problem}, parts, stream);
    } else {
        launch_row_loss(CrossEntropyLoss<Real, ShiftedLogits<Real>>{problem}, parts, stream);
    }
}

template <class Real>
void launch_cross_entropy_backward(const CrossEntropyBackward<Real>& problem, cudaStream_t stream) {
    if (problem.shift == nullptr) {
        launch_row_gradient(CrossEntropyGradient<Real, PlainLogits<Real>>{problem}, stream);
    } else {
        launch_row_gradient(CrossEntropyGradient<Real, ShiftedLogits<Real>>{problem}, stream);
    }
}

template <class Real>
void launch_peer_statistics(const PeerStatistics<Real>& problem, RowPart* parts, cudaStream_t stream) {
    for (int k = 0; k < 2; ++k) {
        launch_row_loss(PeerLoss<Real>{{problem.rows, problem.classes, problem.logits[k], problem.labels,
                                        problem.losses + k * problem.rows, problem.predictions + k * problem.rows}},
                        parts, stream);
    }
}

}  // namespace reid
