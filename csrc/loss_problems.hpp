// What each fused loss is given and what it fills in, the same for every device. The definitions are in reid_core/losses.
//
// z' is a row of logits (after its shift), p' its softmax. Of every row three numbers in float64 are kept for the backward
// pass, so that nothing of size (rows, classes) is: its largest logit, the logarithm of the sum of exponentials relative to
// that, and the class of the largest logit (or a value named below). The first two stay apart: their sum in float32
// would lose digits where logits are large.
#pragma once

#include <cstdint>

#include "half.hpp"

namespace reid {

// Rows of numbers side by side, `stride` from row to row; any alignment that Real has.
template <class Real>
struct Rows {
    const Real* first;
    std::int64_t stride;
};

// Gradients of more bytes than this leave the cache before anybody reads them: they are written past it.
constexpr std::int64_t stream_bytes = std::int64_t{1} << 24;

// One number a row, `stride` apart (0: the same for all, as a mean's gradient is).
template <class Real>
struct Column {
    const Real* first;
    std::int64_t stride;
};

// Two networks that teach each other:
//     losses[k] = w * CE(z_k, top_j) + soft_weight * sum over classes of -p_j * log p_k
// where j is the other one, top_j the class of its largest logit, and w is agree_weight where both have the same and
// disagree_weight elsewhere. A class with p_j = 0 in LossOf<Real> counts 0, also where log p_k is -inf.
template <class Real>
struct CoRefine {
    std::int64_t rows;
    std::int64_t classes;
    Rows<Real> logits[2];
    double soft_weight;
    double agree_weight;
    double disagree_weight;
    LossOf<Real>* losses[2];  // (rows) each; the second is null where network 1 only teaches
    double* statistics;       // (2, rows, 3) of each network: largest, log_sum, class of the largest
};

// The same with both gradients, where the gradient of every loss is `grad`: as after a mean, which most often follows.
template <class Real>
struct CoRefineGradients : CoRefine<Real> {
    double grad;
    Real* gradients[2];  // (rows, classes) contiguous, as below
    bool streamed;       // gradients are written past the cache; both begin at the same place within a cache line
};

// gradient = grad * ((w + soft_weight) * p - soft_weight * p_peer - w * [class == top_peer]) for the network that learns.
template <class Real>
struct CoRefineBackward {
    std::int64_t rows;
    std::int64_t classes;
    Rows<Real> logits;  // of the learner
    Rows<Real> peer;
    const double* statistics;       // (rows, 3) of the learner
    const double* peer_statistics;  // (rows, 3)
    double soft_weight;
    double agree_weight;
    double disagree_weight;
    Column<LossOf<Real>> grad;  // of the loss
    Real* gradient;             // (rows, classes) contiguous
};

// Cross-entropy with given labels, with the network's own prediction `top` and with all classes alike, z' = logits + shift:
//     loss = (1 - smoothing) * (given_weight * CE(z', label) + own_weight * CE(z', top))
//          + smoothing * mean over classes of CE(z', class)
// A term whose weight is 0 is left out.
template <class Real>
struct CrossEntropy {
    std::int64_t rows;
    std::int64_t classes;
    Rows<Real> logits;
    Column<std::int64_t> labels;
    const LossOf<Real>* shift;  // (classes), or null: none
    double given_weight;
    double own_weight;
    double smoothing;
    LossOf<Real>* loss;
    double* statistics;  // (rows, 3) of z': largest, log_sum, class of the largest
};

// gradient = grad * (all * p' - (1 - smoothing) * (given_weight * [class == label] + own_weight * [class == top])
//                    - smoothing / classes),    all = (1 - smoothing) * (given_weight + own_weight) + smoothing
template <class Real>
struct CrossEntropyBackward {
    std::int64_t rows;
    std::int64_t classes;
    Rows<Real> logits;
    Column<std::int64_t> labels;
    const LossOf<Real>* shift;
    const double* statistics;
    double given_weight;
    double own_weight;
    double smoothing;
    Column<LossOf<Real>> grad;
    Real* gradient;
};

// loss = sum over classes of -targets * log p; a class with target 0 counts 0. Target is Real or LossOf<Real>.
template <class Real, class Target>
struct SoftTarget {
    std::int64_t rows;
    std::int64_t classes;
    Rows<Real> logits;
    Rows<Target> targets;
    LossOf<Real>* loss;
    double* statistics;  // (rows, 3): largest, log_sum, sum of the targets
};

// gradient = grad * (sum of the targets * p - targets)
template <class Real, class Target>
struct SoftTargetBackward {
    std::int64_t rows;
    std::int64_t classes;
    Rows<Real> logits;
    Rows<Target> targets;
    const double* statistics;
    Column<LossOf<Real>> grad;
    Real* gradient;
};

// loss = sum over classes of p * log p; a class with p = 0 counts 0.
template <class Real>
struct ConfidencePenalty {
    std::int64_t rows;
    std::int64_t classes;
    Rows<Real> logits;
    LossOf<Real>* loss;
    double* statistics;  // (rows, 3): largest, log_sum, the loss
};

// gradient = grad * p * (log p - loss), 0 where p = 0
template <class Real>
struct ConfidencePenaltyBackward {
    std::int64_t rows;
    std::int64_t classes;
    Rows<Real> logits;
    const double* statistics;
    Column<LossOf<Real>> grad;
    Real* gradient;
};

// What two networks choose each other's samples by: CE(z_k, label) and the class of the largest logit.
template <class Real>
struct PeerStatistics {
    std::int64_t rows;
    std::int64_t classes;
    Rows<Real> logits[2];
    Column<std::int64_t> labels;
    LossOf<Real>* losses;        // (2, rows)
    std::int64_t* predictions;  // (2, rows)
};

}  // namespace reid
