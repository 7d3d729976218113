// Cross-entropy with a distribution as the target, on the processor; the problem is in loss_problems.hpp.
#pragma once

#include "row_loss.hpp"

namespace reid {

template <class Real, class Target>
RowPart part_of(const SoftTarget<Real, Target>& problem, std::int64_t row, std::int64_t chunk, Isa isa) {
    const auto [start, size] = span_of(chunk, problem.classes);
    ChunkBuffer<Real> logits;
    ChunkBuffer<Target> targets;
    return part_of<Weighted::targets>(logits.widened(row_of(problem.logits, row) + start, size, isa),
                                      targets.widened(row_of(problem.targets, row) + start, size, isa), size, isa);
}

template <class Real, class Target>
void finish_row(const SoftTarget<Real, Target>& problem, std::int64_t row, const RowPart& part) {
    const double log_sum = std::log(part.sums.sum);
    double* statistics = problem.statistics + 3 * row;
    statistics[0] = part.largest;
    statistics[1] = log_sum;
    statistics[2] = part.sums.weight;
    problem.loss[row] = static_cast<LossOf<Real>>(part.sums.weight * log_sum + part.sums.cross);
}

template <class Real, class Target>
void write_gradient(const SoftTargetBackward<Real, Target>& problem, std::int64_t row, std::int64_t chunk, Isa isa) {
    using Wide = LossOf<Real>;
    const double* statistics = problem.statistics + 3 * row;
    const double grad = problem.grad.first[row * problem.grad.stride];
    const auto [start, size] = span_of(chunk, problem.classes);
    ChunkBuffer<Real> logits;
    ChunkBuffer<Target> targets;
    GradientBuffer<Real> gradient;
    Real* out = problem.gradient + row * problem.classes + start;
    write_from_targets(logits.widened(row_of(problem.logits, row) + start, size, isa),
                       targets.widened(row_of(problem.targets, row) + start, size, isa), size, static_cast<Wide>(statistics[0]),
                       static_cast<Wide>(grad * statistics[2] * std::exp(-statistics[1])), static_cast<Wide>(grad),
                       gradient.of(out), isa);
    gradient.store(out, size, isa);
}

}  // namespace reid
