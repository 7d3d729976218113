// Minus the entropy of a prediction; the problem is in loss_problems.hpp.
#pragma once

#include "row_loss_kernel.hpp"

namespace reid {

template <class Real>
struct ConfidencePenaltyLoss {
    using Logits = PlainLogits<Real>;
    using Number = typename Logits::Number;
    static constexpr bool mass_is_exponential = true;
    ConfidencePenalty<Real> problem;

    // Terms are e^(z - largest) * (z - largest), all of one sign; the mass is the sum of exponentials once more.
    __device__ __forceinline__ void add(std::int64_t, int, int, const Difference<Number> (&below)[eight],
                                        const Number (&powers)[eight], double& mass, double& terms) const {
        Number products[eight];
        for (int i = 0; i < eight; ++i) products[i] = powers[i] == 0 ? Number(0) : powers[i] * below[i].high;
        mass += sum_of(powers);
        terms += sum_of(products);
    }

    __device__ void finish(std::int64_t row, const RowSums& sums) const {
        const double loss = sums.terms / sums.sum - sums.log_sum;
        problem.loss[row] = static_cast<LossOf<Real>>(loss);
        double* statistics = problem.statistics + 3 * row;
        statistics[0] = sums.largest;
        statistics[1] = sums.log_sum;
        statistics[2] = loss;
    }
};

template <class Real>
struct ConfidencePenaltyGradient {
    using Logits = PlainLogits<Real>;
    using Number = typename Logits::Number;
    ConfidencePenaltyBackward<Real> problem;

    struct Row {
        Number grad;
        Number log_sum_and_loss;

        __device__ Row(const ConfidencePenaltyBackward<Real>& problem, std::int64_t row)
            : grad(problem.grad.first[row * problem.grad.stride]),
              log_sum_and_loss(
                  static_cast<Number>(problem.statistics[3 * row + 1] + problem.statistics[3 * row + 2])) {}
    };

    __device__ __forceinline__ void of(std::int64_t, int, int, const Row& row, const Difference<Number> (&below)[eight],
                                       Number (&p)[eight]) const {
        for (int i = 0; i < eight; ++i)
            p[i] = p[i] == 0 ? Number(0) : row.grad * p[i] * (below[i].high - row.log_sum_and_loss);
    }
};

template <class Real>
void launch_confidence_penalty(const ConfidencePenalty<Real>& problem, RowPart* parts, cudaStream_t stream) {
    launch_row_loss(ConfidencePenaltyLoss<Real>{problem}, parts, stream);
}

template <class Real>
void launch_confidence_penalty_backward(const ConfidencePenaltyBackward<Real>& problem, cudaStream_t stream) {
    launch_row_gradient(ConfidencePenaltyGradient<Real>{problem}, stream);
}

}  // namespace reid
