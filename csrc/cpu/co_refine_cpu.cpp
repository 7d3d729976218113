// Co-refining on the processor, and what its ops look like from Python.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <tuple>
#include <type_traits>

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

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> co_refine_pair_gradients(Tensor a, Tensor b, Tensor gradient_a,
                                                                            Tensor gradient_b, double soft, double agree,
                                                                            double disagree) {
    const char* op = "co_refine_pair_gradients";
    return reid::co_refine_both_passes(op, a, b, gradient_a, gradient_b, {soft, agree, disagree}, [](const auto& problem) {
        using Wide = std::remove_pointer_t<std::decay_t<decltype(problem.losses[0])>>;
        const reid::Isa isa = reid::instruction_set();
        reid::visit_rows(problem.rows, problem.classes, [&](std::int64_t begin, std::int64_t end) {
            reid::CoRefineRow<Wide> room(problem.classes);
            for (std::int64_t row = begin; row < end; ++row) reid::solve_row(problem, row, room, isa);
            if (problem.streamed) reid::finish_streams();
        });
    });
}

double mean_scale(Tensor grad) { return reid::mean_scale("mean_scale", grad); }

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
    // How many times a mean's gradient this gradient of (B) losses is: 1 after a mean, NaN where it is no multiple.
    m.def("mean_scale(Tensor grad) -> float");
    // Losses of both networks, the mean of each, statistics; fills in the gradients of the means.
    m.def(
        "co_refine_pair_gradients(Tensor a, Tensor b, Tensor(a!) gradient_a, Tensor(b!) gradient_b, float soft_weight, "
        "float agree_weight, float disagree_weight) -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(reid_core, CPU, m) {
    m.impl("co_refine_pair", TORCH_BOX(&co_refine_pair));
    m.impl("co_refine", TORCH_BOX(&co_refine));
    m.impl("co_refine_pair_gradients", TORCH_BOX(&co_refine_pair_gradients));
    m.impl("mean_scale", TORCH_BOX(&mean_scale));
    m.impl("co_refine_backward", TORCH_BOX(&co_refine_backward));
}
