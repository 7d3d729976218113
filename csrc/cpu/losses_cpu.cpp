// What the fused losses look like from Python; their problems are in loss_problems.hpp.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY_FRAGMENT(reid_core, m) {
    // Both directions in one pass: loss of network a, loss of network b, statistics (2, B, 3). Two networks are updated one
    // after the other, so each loss has a backward of its own; `learner` is the network (0 or 1) whose gradient it is.
    m.def(
        "co_refine_pair(Tensor a, Tensor b, float soft_weight, float agree_weight, float disagree_weight) "
        "-> (Tensor, Tensor, Tensor)");
    m.def(
        "co_refine(Tensor logits, Tensor peer_logits, float soft_weight, float agree_weight, float disagree_weight) "
        "-> (Tensor, Tensor)");
    m.def(
        "co_refine_backward(Tensor grad, Tensor logits, Tensor peer_logits, Tensor statistics, int learner, "
        "float soft_weight, float agree_weight, float disagree_weight) -> Tensor");
    m.def(
        "cross_entropy(Tensor logits, Tensor labels, Tensor? shift, float given_weight, float own_weight, float smoothing) "
        "-> (Tensor, Tensor)");
    m.def(
        "cross_entropy_backward(Tensor grad, Tensor logits, Tensor labels, Tensor? shift, Tensor statistics, "
        "float given_weight, float own_weight, float smoothing) -> Tensor");
    m.def("soft_target_cross_entropy(Tensor logits, Tensor targets) -> (Tensor, Tensor)");
    m.def("soft_target_cross_entropy_backward(Tensor grad, Tensor logits, Tensor targets, Tensor statistics) -> Tensor");
    m.def("confidence_penalty(Tensor logits) -> (Tensor, Tensor)");
    m.def("confidence_penalty_backward(Tensor grad, Tensor logits, Tensor statistics) -> Tensor");
    // Per-sample losses (2, B) and predictions (2, B); no gradient.
    m.def("peer_statistics(Tensor a, Tensor b, Tensor labels) -> (Tensor, Tensor)");
}
