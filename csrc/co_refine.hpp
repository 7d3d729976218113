// Co-refining of two networks on the processor; the problem is in loss_problems.hpp.
//
// A row is taken in chunks that stay in the cache: of each the largest logits first, then all sums relative to them. The
// sums of chunks are brought together in float64, in the order of the chunks, so that several threads may share a row
// without a change of any bit.
//
// The soft term of network 0 is log_sum_0 + cross_0 / sum_1, where
//     cross_0 = sum over classes of e^(z_1 - largest_1) * (largest_0 - z_0);
// nothing in it is negative, so nothing cancels.
#pragma once

#include <vector>

#include "loss_rows.hpp"

namespace reid {

// What the first chunks of a row add up to; [0] and [1] are the networks.
template <class Wide>
struct CoRefinePart {
    Wide largest[2];
    Wide reference[2];  // what the sums are relative to: the largest logit, or 0 where all are -inf
    std::int64_t top_chunk[2];
    double sum[2];
    double cross[2];
    Wide ruled_out[2];  // [k]: the other network's largest logit over classes where network k has -inf
};

// gradient = own * e^(logits - largest) - peer * e^(peer's logits - peer_largest) - hard * [class == taught]
template <class Wide>
struct CoRefineFactors {
    Wide largest;
    Wide peer_largest;
    Wide own;
    Wide peer;
    std::int64_t taught;
    Wide hard;
};

}  // namespace reid

#define REID_BODY "co_refine_body.hpp"
#include "each_isa.hpp"
#undef REID_BODY

namespace reid {

template <class Wide>
void sum_chunk(const Wide* const* logits, std::int64_t size, Wide* const* kept, CoRefinePart<Wide>& part, Isa isa) {
    REID_FOR_ISA(isa, sum_chunk(logits, size, kept, part));
}

template <class Wide>
void write_gradient(const Wide* logits, const Wide* peer, std::int64_t size, const CoRefineFactors<Wide>& factors, Wide* out,
                    Isa isa) {
    REID_FOR_ISA(isa, write_gradient(logits, peer, size, factors, out));
}

template <class Wide>
void write_gradients(const Wide* const* powers, std::int64_t size, const CoRefineFactors<Wide>* factors, Wide* const* out,
                     bool streamed, Isa isa) {
    REID_FOR_ISA(isa, write_gradients(powers, size, factors, out, streamed));
}

// `kept`: null, or where e^(logits - reference) of both networks' chunks go.
template <class Real>
CoRefinePart<LossOf<Real>> part_of(const CoRefine<Real>& problem, std::int64_t row, std::int64_t chunk, Isa isa,
                                   LossOf<Real>* const* kept = nullptr) {
    ChunkBuffer<Real> buffers[2];
    const LossOf<Real>* logits[2];
    CoRefinePart<LossOf<Real>> part;
    const auto [start, size] = span_of(chunk, problem.classes);
    for (int k = 0; k < 2; ++k) {
        logits[k] = buffers[k].widened(row_of(problem.logits[k], row) + start, size, isa);
        part.top_chunk[k] = chunk;
    }
    sum_chunk(logits, size, kept, part, isa);
    return part;
}

// Adds the next chunk.
template <class Wide>
void add_part(CoRefinePart<Wide>& all, const CoRefinePart<Wide>& next) {
    constexpr Wide none = -std::numeric_limits<Wide>::infinity();
    double weight[2][2];
    double rise[2][2];
    for (int k = 0; k < 2; ++k) {
        const bool higher = next.largest[k] > all.largest[k];
        const double reference = higher ? next.reference[k] : all.reference[k];
        rise[k][0] = reference - all.reference[k];
        rise[k][1] = reference - next.reference[k];
        weight[k][0] = higher ? (all.largest[k] == none ? 0 : std::exp(-rise[k][0])) : 1;
        weight[k][1] = higher ? 1 : (next.largest[k] == none ? 0 : std::exp(-rise[k][1]));
        if (higher) {
            all.largest[k] = next.largest[k];
            all.reference[k] = next.reference[k];
            all.top_chunk[k] = next.top_chunk[k];
        }
        all.ruled_out[k] = std::max(all.ruled_out[k], next.ruled_out[k]);
    }
    for (int k = 0; k < 2; ++k) {
        const int j = 1 - k;
        all.cross[k] = (all.cross[k] + rise[k][0] * all.sum[j]) * weight[j][0] +
                       (next.cross[k] + rise[k][1] * next.sum[j]) * weight[j][1];
    }
    for (int k = 0; k < 2; ++k) all.sum[k] = all.sum[k] * weight[k][0] + next.sum[k] * weight[k][1];
}

// Statistics and losses of a row from the sums over all its classes.
template <class Real>
void finish_row(const CoRefine<Real>& problem, std::int64_t row, const CoRefinePart<LossOf<Real>>& part) {
    using Wide = LossOf<Real>;
    double log_sum[2];
    std::int64_t top[2];
    for (int k = 0; k < 2; ++k) {
        top[k] = top_class(row_of(problem.logits[k], row), problem.classes, part.top_chunk[k], part.largest[k], part.sum[k]);
        log_sum[k] = std::log(part.sum[k]);
        double* statistics = problem.statistics + (k * problem.rows + row) * 3;
        statistics[0] = widen(row_of(problem.logits[k], row)[top[k]]);
        statistics[1] = log_sum[k];
        statistics[2] = static_cast<double>(top[k]);
    }
    const double weight = top[0] == top[1] ? problem.agree_weight : problem.disagree_weight;
    for (int k = 0; k < 2; ++k) {
        if (problem.losses[k] == nullptr) continue;
        const int j = 1 - k;
        const double largest = part.reference[k];
        const double hard = log_sum[k] + (largest - widen(row_of(problem.logits[k], row)[top[j]]));
        double soft = log_sum[k] + part.cross[k] / part.sum[j];
        // Network k has -inf somewhere: no matter where the other one's probability is 0, in the type it is computed in.
        const double highest = part.ruled_out[k] - static_cast<double>(part.reference[j]) - log_sum[j];
        if (static_cast<Wide>(std::exp(highest)) > 0) soft = std::numeric_limits<double>::infinity();
        problem.losses[k][row] = static_cast<Wide>(weight * hard + problem.soft_weight * soft);
    }
}

template <class Real>
CoRefineFactors<LossOf<Real>> factors_of(const CoRefineBackward<Real>& problem, std::int64_t row) {
    using Wide = LossOf<Real>;
    const double* own = problem.statistics + 3 * row;
    const double* peer = problem.peer_statistics + 3 * row;
    const double weight = own[2] == peer[2] ? problem.agree_weight : problem.disagree_weight;
    const double grad = problem.grad.first[row * problem.grad.stride];
    return {
        static_cast<Wide>(own[0]),
        static_cast<Wide>(peer[0]),
        static_cast<Wide>(grad * (weight + problem.soft_weight) * std::exp(-own[1])),
        static_cast<Wide>(grad * problem.soft_weight * std::exp(-peer[1])),
        static_cast<std::int64_t>(peer[2]),
        static_cast<Wide>(grad * weight),
    };
}

// The gradient of one chunk of a row.
template <class Real>
void write_gradient(const CoRefineBackward<Real>& problem, std::int64_t row, std::int64_t chunk, Isa isa) {
    const auto factors = factors_of(problem, row);
    const auto [start, size] = span_of(chunk, problem.classes);
    ChunkBuffer<Real> buffers[2];
    GradientBuffer<Real> gradient;
    Real* out = problem.gradient + row * problem.classes + start;
    auto* wide = gradient.of(out);
    write_gradient(buffers[0].widened(row_of(problem.logits, row) + start, size, isa),
                   buffers[1].widened(row_of(problem.peer, row) + start, size, isa), size, factors, wide, isa);
    if (start <= factors.taught && factors.taught < start + size) wide[factors.taught - start] -= factors.hard;
    gradient.store(out, size, isa);
}

// What a thread needs of its own to work on rows of both losses and gradients at once: sums of each chunk, and of the row
// e^(logits - the chunk's largest).
template <class Wide>
struct CoRefineRow {
    std::vector<CoRefinePart<Wide>> parts;
    std::vector<Wide> powers[2];

    explicit CoRefineRow(std::int64_t classes) : parts(static_cast<std::size_t>(num_chunks(classes))) {
        for (auto& row : powers) row.resize(static_cast<std::size_t>(classes));
    }
};

// The gradients of one chunk, once the row is finished.
template <class Real>
void write_gradients(const CoRefineGradients<Real>& problem, std::int64_t row, std::int64_t chunk,
                     const CoRefinePart<LossOf<Real>>& all, double weight, const CoRefineRow<LossOf<Real>>& room, Isa isa) {
    using Wide = LossOf<Real>;
    constexpr Wide none = -std::numeric_limits<Wide>::infinity();
    const auto [start, size] = span_of(chunk, problem.classes);
    const auto& part = room.parts[static_cast<std::size_t>(chunk)];
    const double* statistics[2] = {problem.statistics + 3 * row, problem.statistics + 3 * (problem.rows + row)};
    double probability[2];  // of a class whose power is 1
    for (int k = 0; k < 2; ++k) {
        const bool nothing = part.largest[k] == none && all.largest[k] != none;
        const double below = static_cast<double>(part.reference[k]) - static_cast<double>(all.reference[k]);
        probability[k] = nothing ? 0 : std::exp(below - statistics[k][1]);
    }
    CoRefineFactors<Wide> factors[2];
    GradientBuffer<Real> buffers[2];
    const Wide* powers[2];
    Real* out[2];
    Wide* wide[2];
    for (int k = 0; k < 2; ++k) {
        factors[k] = {
            part.reference[k],
            part.reference[1 - k],
            static_cast<Wide>(problem.grad * (weight + problem.soft_weight) * probability[k]),
            static_cast<Wide>(problem.grad * problem.soft_weight * probability[1 - k]),
            static_cast<std::int64_t>(statistics[1 - k][2]),
            static_cast<Wide>(problem.grad * weight),
        };
        powers[k] = room.powers[k].data() + start;
        out[k] = problem.gradients[k] + row * problem.classes + start;
        wide[k] = buffers[k].of(out[k]);
    }
    write_gradients(powers, size, factors, wide, problem.streamed, isa);
    for (int k = 0; k < 2; ++k) {
        const std::int64_t taught = factors[k].taught - start;
        if (0 <= taught && taught < size) wide[k][taught] -= factors[k].hard;
        buffers[k].store(out[k], size, isa);
    }
}

// Losses, statistics and both gradients of a row. Logits are read once and each exponential is computed once: it is kept
// until the sums of the whole row are known.
template <class Real>
void solve_row(const CoRefineGradients<Real>& problem, std::int64_t row, CoRefineRow<LossOf<Real>>& room, Isa isa) {
    using Wide = LossOf<Real>;
    const std::int64_t chunks = num_chunks(problem.classes);
    CoRefinePart<Wide> all{};
    for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
        const std::int64_t start = span_of(chunk, problem.classes).start;
        Wide* const kept[2] = {room.powers[0].data() + start, room.powers[1].data() + start};
        const auto& part = room.parts[static_cast<std::size_t>(chunk)] = part_of(problem, row, chunk, isa, kept);
        if (chunk == 0) {
            all = part;
        } else {
            add_part(all, part);
        }
    }
    finish_row(problem, row, all);
    const double* statistics[2] = {problem.statistics + 3 * row, problem.statistics + 3 * (problem.rows + row)};
    const double weight = statistics[0][2] == statistics[1][2] ? problem.agree_weight : problem.disagree_weight;
    for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
        write_gradients(problem, row, chunk, all, weight, room, isa);
    }
}

}  // namespace reid
