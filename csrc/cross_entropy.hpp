// Cross-entropy and its kin on the processor; the problem is in loss_problems.hpp.
#pragma once

#include "row_loss.hpp"

namespace reid {

// A chunk of a row of logits plus the shift, relative to those of one class: logits and shift are subtracted apart, since
// the sum of a large logit and its shift would lose digits in float32.
template <class Real>
void shift_chunk(const Real* logits, const LossOf<Real>* shift, std::int64_t size, LossOf<Real> logit, LossOf<Real> shift_of,
                 LossOf<Real>* out) {
    for (std::int64_t j = 0; j < size; ++j) out[j] = (widen(logits[j]) - logit) + (shift[j] - shift_of);
}

template <class Real>
RowPart part_of(const CrossEntropy<Real>& problem, std::int64_t row, std::int64_t chunk, Isa isa) {
    using Wide = LossOf<Real>;
    const auto [start, size] = span_of(chunk, problem.classes);
    const Real* logits = row_of(problem.logits, row) + start;
    ChunkBuffer<Real> buffer;
    Wide shifted[loss_chunk];
    const Wide* values = buffer.widened(logits, size, isa);
    if (problem.shift != nullptr) {
        shift_chunk(logits, problem.shift + start, size, Wide(0), Wide(0), shifted);
        values = shifted;
    }
    const Wide largest = largest_in(values, size, isa);
    const std::int64_t place = first_place(values, size, [largest](auto value) { return value == largest; }) % size;
    double moved = 0;
    if (problem.shift != nullptr && largest != -std::numeric_limits<Wide>::infinity()) {
        const Wide logit = widen(logits[place]);
        const Wide shift_of = problem.shift[start + place];
        moved = static_cast<double>(logit) + shift_of;
        shift_chunk(logits, problem.shift + start, size, logit, shift_of, shifted);
    }
    RowPart part = problem.smoothing == 0 ? part_of<Weighted::nothing>(values, values, size, isa)
                                          : part_of<Weighted::ones>(values, values, size, isa);
    part.largest += moved;
    part.reference += moved;
    part.top = start + place;
    return part;
}

template <class Real>
void finish_row(const CrossEntropy<Real>& problem, std::int64_t row, const RowPart& part) {
    const Real* logits = row_of(problem.logits, row);
    std::int64_t top = part.top;
    if (part.sums.sum != part.sums.sum) {
        const std::int64_t place = first_place(logits, problem.classes, [](auto value) { return value != value; });
        if (place < problem.classes) top = place;
    }
    const auto value = [&](std::int64_t label) -> double {
        return static_cast<double>(widen(logits[label])) + (problem.shift == nullptr ? 0 : problem.shift[label]);
    };
    const double log_sum = std::log(part.sums.sum);
    double* statistics = problem.statistics + 3 * row;
    statistics[0] = value(top);
    statistics[1] = log_sum;
    statistics[2] = static_cast<double>(top);
    const std::int64_t label = problem.labels.first[row * problem.labels.stride];
    // Where its weight is 0, what may be infinite is left out.
    const double given = problem.given_weight == 0 ? 0 : log_sum + (part.reference - value(label));
    const double own = log_sum + (part.reference - value(top));
    double loss = (1 - problem.smoothing) * (problem.given_weight * given + problem.own_weight * own);
    if (problem.smoothing != 0) {
        loss += problem.smoothing * (log_sum + part.sums.cross / static_cast<double>(problem.classes));
    }
    problem.loss[row] = static_cast<LossOf<Real>>(loss);
}

template <class Real>
void write_gradient(const CrossEntropyBackward<Real>& problem, std::int64_t row, std::int64_t chunk, Isa isa) {
    using Wide = LossOf<Real>;
    const double* statistics = problem.statistics + 3 * row;
    const std::int64_t top = static_cast<std::int64_t>(statistics[2]);
    const std::int64_t label = problem.labels.first[row * problem.labels.stride];
    const double grad = problem.grad.first[row * problem.grad.stride];
    const double given = grad * (1 - problem.smoothing) * problem.given_weight;
    const double own = grad * (1 - problem.smoothing) * problem.own_weight;
    const double spread = grad * problem.smoothing;
    const auto [start, size] = span_of(chunk, problem.classes);
    const Real* logits = row_of(problem.logits, row);
    ChunkBuffer<Real> buffer;
    Wide shifted[loss_chunk];
    const Wide* values = shifted;
    Wide largest = 0;
    if (problem.shift == nullptr) {
        values = buffer.widened(logits + start, size, isa);
        largest = static_cast<Wide>(statistics[0]);
    } else {
        shift_chunk(logits + start, problem.shift + start, size, widen(logits[top]), problem.shift[top], shifted);
    }
    GradientBuffer<Real> gradient;
    Real* out = problem.gradient + row * problem.classes + start;
    Wide* wide = gradient.of(out);
    write_probabilities(values, size, largest, static_cast<Wide>((given + own + spread) * std::exp(-statistics[1])),
                        static_cast<Wide>(spread / static_cast<double>(problem.classes)), wide, isa);
    if (start <= label && label < start + size) wide[label - start] -= static_cast<Wide>(given);
    if (start <= top && top < start + size) wide[top - start] -= static_cast<Wide>(own);
    gradient.store(out, size, isa);
}

}  // namespace reid
