// Co-refining on the processor, and what its ops look like from Python.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <tuple>

#include "co_refine.hpp"
#include "co_refine_op.hpp"
#include "parallel_rows.hpp"

namespace {

using torch::stable::Tensor;

const auto solve_co_refine = [](const auto& problem) {
    const reid::Isa isa = reid::instruction_set();
    reid::reduce_rows(
        problem.rows, problem.classes,
        [&](std::int64_t row, std::int64_t chunk) { return reid::part_of(problem, row, chunk, isa); },
        [](auto& all, const auto& next) { reid::add_part(all, next); },
        [&](std::int64_t row, const auto& all) { reid::finish_row(problem, row, all); });
};

std::tuple<Tensor, Tensor, Tensor> co_refine_pair(Tensor a, Tensor b, double soft, double agree, double disagree) {
    return reid::co_refine_forward("co_refine_pair", a, b, true, {soft, agree, disagree}, solve_co_refine);
}

std::tuple<Tensor, Tensor> co_refine(Tensor logits, Tensor peer, double soft, double agree, double disagree) {
    const auto [loss, same, statistics] =
        reid::co_refine_forward("co_refine", logits, peer, false, {soft, agree, disagree}, solve_co_refine);
    return {loss, statistics};
}

Tensor co_refine_backward(Tensor grad, Tensor logits, Tensor peer, Tensor statistics, std::int64_t learner, double soft,
                          double agree, double disagree) {
    return reid::co_refine_gradient(grad, logits, peer, statistics, learner, {soft, agree, disagree}, [](const auto& problem) {
        const reid::Isa isa = reid::instruction_set();
        reid::write_chunks(problem.rows, problem.classes, [&](std::int64_t row, std::int64_t chunk) {
            reid::write_gradient(problem, row, chunk, isa);
        });
    });
}

std::tuple<Tensor, Tensor> co_refine_pair_backward(Tensor grad, Tensor a, Tensor b, Tensor statistics, double soft,
                                                   double agree, double disagree) {
    return reid::co_refine_gradients(grad, a, b, statistics, {soft, agree, disagree}, [](const auto& problems) {
        const reid::Isa isa = reid::instruction_set();
        reid::write_chunks(problems[0].rows, problems[0].classes, [&](std::int64_t row, std::int64_t chunk) {
            reid::write_gradients(problems, row, chunk, isa);
        });
    });
}

}  // namespace

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
    // Both gradients at once, where both losses have the same gradient.
    m.def(
        "co_refine_pair_backward(Tensor grad, Tensor a, Tensor b, Tensor statistics, float soft_weight, float agree_weight, "
        "float disagree_weight) -> (Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(reid_core, CPU, m) {
    m.impl("co_refine_pair", TORCH_BOX(&co_refine_pair));
    m.impl("co_refine", TORCH_BOX(&co_refine));
    m.impl("co_refine_pair_backward", TORCH_BOX(&co_refine_pair_backward));
    m.impl("co_refine_backward", TORCH_BOX(&co_refine_backward));
}
