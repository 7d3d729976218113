// Cross-entropy with a distribution over the classes; the problem is in loss_problems.hpp.
#pragma once

#include "row_loss_kernel.hpp"

namespace reid {

template <class Real, class Target>
struct SoftTargetLoss {
    using Logits = PlainLogits<Real>;
    using Number = typename Logits::Number;
    static constexpr bool mass_is_exponential = false;
    SoftTarget<Real, Target> problem;

    // Terms are target * (z - largest), all of one sign; a target of 0 counts 0 where the logit is -inf.
    __device__ __forceinline__ void add(std::int64_t row, int place, int count,
                                        const Difference<Number> (&below)[eight], const Number (&)[eight], double& mass,
                                        double& terms) const {
        Number targets[eight];
        Number products[eight];
        load(row_at(problem.targets, row) + place, count, Number(0), targets);
        for (int i = 0; i < eight; ++i) products[i] = targets[i] == 0 ? Number(0) : targets[i] * below[i].high;
        mass += sum_of(targets);
        terms += sum_of(products);
    }

    __device__ void finish(std::int64_t row, const RowSums& sums) const {
        problem.loss[row] = static_cast<LossOf<Real>>(sums.mass * sums.log_sum - sums.terms);
        double* statistics = problem.statistics + 3 * row;
        statistics[0] = sums.largest;
        statistics[1] = sums.log_sum;
        statistics[2] = sums.mass;
    }
};

template <class Real, class Target>
struct SoftTargetGradient {
    using Logits = PlainLogits<Real>;
    using Number = typename Logits::Number;
    SoftTargetBackward<Real, Target> problem;

    struct Row {
        Number grad;
        Number mass;

        __device__ Row(const SoftTargetBackward<Real, Target>& problem, std::int64_t row)
            : grad(problem.grad.first[row * problem.grad.stride]),
              mass(static_cast<Number>(problem.statistics[3 * row + 2])) {}
    };

    __device__ __forceinline__ void of(std::int64_t row, int place, int count, const Row& constants,
                                       const Difference<Number> (&)[eight], Number (&p)[eight]) const {
        Number targets[eight];
        load(row_at(problem.targets, row) + place, count, Number(0), targets);
        for (int i = 0; i < eight; ++i) p[i] = constants.grad * (constants.mass * p[i] - targets[i]);
    }
};

template <class Real, class Target>
void launch_soft_target(const SoftTarget<Real, Target>& problem, RowPart* parts, cudaStream_t stream) {
    launch_row_loss(SoftTargetLoss<Real, Target>{problem}, parts, stream);
}

template <class Real, class Target>
void launch_soft_target_backward(const SoftTargetBackward<Real, Target>& problem, cudaStream_t stream) {
    launch_row_gradient(SoftTargetGradient<Real, Target>{problem}, stream);
}

}  // namespace reid
