// Minus the entropy of a prediction, on the processor; the problem is in loss_problems.hpp.
#pragma once

#include "row_loss.hpp"

namespace reid {

template <class Real>
RowPart part_of(const ConfidencePenalty<Real>& problem, std::int64_t row, std::int64_t chunk, Isa isa) {
    const auto [start, size] = span_of(chunk, problem.classes);
    ChunkBuffer<Real> buffer;
    const LossOf<Real>* logits = buffer.widened(row_of(problem.logits, row) + start, size, isa);
    return part_of<Weighted::powers>(logits, logits, size, isa);
}

template <class Real>
void finish_row(const ConfidencePenalty<Real>& problem, std::int64_t row, const RowPart& part) {
    const double log_sum = std::log(part.sums.sum);
    const double loss = -log_sum - part.sums.cross / part.sums.sum;
    double* statistics = problem.statistics + 3 * row;
    statistics[0] = part.largest;
    statistics[1] = log_sum;
    statistics[2] = loss;
    problem.loss[row] = static_cast<LossOf<Real>>(loss);
}

template <class Real>
void write_gradient(const ConfidencePenaltyBackward<Real>& problem, std::int64_t row, std::int64_t chunk, Isa isa) {
    using Wide = LossOf<Real>;
    const double* statistics = problem.statistics + 3 * row;
    const double grad = problem.grad.first[row * problem.grad.stride];
    const auto [start, size] = span_of(chunk, problem.classes);
    ChunkBuffer<Real> buffer;
    GradientBuffer<Real> gradient;
    Real* out = problem.gradient + row * problem.classes + start;
    write_penalty(buffer.widened(row_of(problem.logits, row) + start, size, isa), size, static_cast<Wide>(statistics[0]),
                  static_cast<Wide>(grad * std::exp(-statistics[1])), static_cast<Wide>(statistics[1] + statistics[2]),
                  gradient.of(out), isa);
    gradient.store(out, size, isa);
}

}  // namespace reid
