// Co-refining on CUDA devices. The kernels stand in co_refine_kernel.hpp, where the tests can run them without a GPU.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <tuple>

#include "co_refine_kernel.hpp"
#include "co_refine_op.hpp"
#include "on_stream.hpp"
#include "parts_room.hpp"

namespace {

using torch::stable::Tensor;

std::tuple<Tensor, Tensor, Tensor> solve_co_refine(const char* op, const Tensor& a, const Tensor& b, bool both,
                                                   const reid::CoRefineWeights& weights) {
    return reid::co_refine_forward(op, a, b, both, weights, [&](const auto& problem) {
        const reid::PartsRoom<reid::PairPart> room(op, a, 2);
        reid::on_stream(a, [&](cudaStream_t stream) { reid::launch_co_refine(problem, room.first(), stream); });
    });
}

std::tuple<Tensor, Tensor, Tensor> co_refine_pair(Tensor a, Tensor b, double soft, double agree, double disagree) {
    return solve_co_refine("co_refine_pair", a, b, true, {soft, agree, disagree});
}

std::tuple<Tensor, Tensor> co_refine(Tensor logits, Tensor peer, double soft, double agree, double disagree) {
    const auto [loss, same, statistics] = solve_co_refine("co_refine", logits, peer, false, {soft, agree, disagree});
    return {loss, statistics};
}

Tensor co_refine_backward(Tensor grad, Tensor logits, Tensor peer, Tensor statistics, std::int64_t learner, double soft,
                          double agree, double disagree) {
    const reid::CoRefineWeights weights{soft, agree, disagree};
    return reid::co_refine_gradient(grad, logits, peer, statistics, learner, weights, [&](const auto& problem) {
        reid::on_stream(logits, [&](cudaStream_t stream) { reid::launch_co_refine_backward(problem, stream); });
    });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(reid_core, CUDA, m) {
    m.impl("co_refine_pair", TORCH_BOX(&co_refine_pair));
    m.impl("co_refine", TORCH_BOX(&co_refine));
    m.impl("co_refine_backward", TORCH_BOX(&co_refine_backward));
}
