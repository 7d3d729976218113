// What the losses of one network have in common on the processor. As in co_refine.hpp a row is taken in chunks, the largest
// logit of each first, then sums relative to it; these are brought together in float64, in the order of the chunks.
//
// Besides the sum of exponentials each loss needs cross = sum of weight * (reference - logit), in which nothing is negative
// where weights are not, with weights of its own.
#pragma once

#include "loss_rows.hpp"

namespace reid {

enum class Weighted { nothing, ones, targets, powers };

struct RowSums {
    double sum;     // of e^(logit - reference)
    double cross;
    double weight;  // sum of the weights
};

// What the first chunks of a row add up to.
struct RowPart {
    double largest;
    double reference;  // what the sums are relative to: the largest logit, or 0 where all are -inf
    std::int64_t top;  // class of the largest logit, where the loss asks for it
    RowSums sums;
};

}  // namespace reid

#define REID_BODY "row_loss_body.hpp"
#include "each_isa.hpp"
#undef REID_BODY

namespace reid {

template <class Wide>
Wide largest_in(const Wide* logits, std::int64_t size, Isa isa) {
    REID_FOR_ISA(isa, largest_in(logits, size));
}

template <Weighted by, class Wide>
void sum_chunk(const Wide* logits, const Wide* targets, std::int64_t size, Wide reference, RowSums& sums, Isa isa) {
    REID_FOR_ISA(isa, sum_chunk<by>(logits, targets, size, reference, sums));
}

template <class Wide>
void write_probabilities(const Wide* logits, std::int64_t size, Wide largest, Wide factor, Wide offset, Wide* out, Isa isa) {
    REID_FOR_ISA(isa, write_probabilities(logits, size, largest, factor, offset, out));
}

template <class Wide>
void write_from_targets(const Wide* logits, const Wide* targets, std::int64_t size, Wide largest, Wide factor, Wide grad,
                        Wide* out, Isa isa) {
    REID_FOR_ISA(isa, write_from_targets(logits, targets, size, largest, factor, grad, out));
}

template <class Wide>
void write_penalty(const Wide* logits, std::int64_t size, Wide largest, Wide factor, Wide offset, Wide* out, Isa isa) {
    REID_FOR_ISA(isa, write_penalty(logits, size, largest, factor, offset, out));
}

template <Weighted by, class Wide>
RowPart part_of(const Wide* logits, const Wide* targets, std::int64_t size, Isa isa) {
    const Wide largest = largest_in(logits, size, isa);
    const Wide reference = largest == -std::numeric_limits<Wide>::infinity() ? 0 : largest;
    RowPart part{largest, reference, 0, {}};
    sum_chunk<by>(logits, targets, size, reference, part.sums, isa);
    return part;
}

// Adds the next chunk; `powers`: the weights are the exponentials themselves.
inline void add_part(RowPart& all, const RowPart& next, bool powers) {
    constexpr double none = -std::numeric_limits<double>::infinity();
    const bool higher = next.largest > all.largest;
    const double reference = higher ? next.reference : all.reference;
    const double rise[2] = {reference - all.reference, reference - next.reference};
    const double scale[2] = {higher ? (all.largest == none ? 0 : std::exp(-rise[0])) : 1,
                             higher ? 1 : (next.largest == none ? 0 : std::exp(-rise[1]))};
    const RowSums parts[2] = {all.sums, next.sums};
    all.sums = {};
    for (int i = 0; i < 2; ++i) {
        const double share = powers ? scale[i] : 1;
        all.sums.sum += parts[i].sum * scale[i];
        all.sums.cross += (parts[i].cross + rise[i] * parts[i].weight) * share;
        all.sums.weight += parts[i].weight * share;
    }
    if (!higher) return;
    all.largest = next.largest;
    all.reference = next.reference;
    all.top = next.top;
}

}  // namespace reid
