// The fused losses on CUDA devices. The kernels stand in headers, where the tests can run them without a GPU.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>

#include <climits>
#include <cstdint>
#include <tuple>

#include "co_refine_kernel.hpp"
#include "co_refine_op.hpp"
#include "on_stream.hpp"

namespace {

using torch::stable::Tensor;

// What a row's parts are written to until they are brought together; `networks` of them a part. Nothing for one part.
template <class Part>
Tensor room_for_parts(const char* op, const Tensor& logits, std::int64_t networks) {
    const std::int64_t rows = logits.size(0);
    constexpr std::int64_t most_classes = 65535 * reid::row_share;
    STD_TORCH_CHECK(rows <= INT_MAX && logits.size(1) <= most_classes, op, ": a GPU takes at most ", INT_MAX, " rows and ",
                    most_classes, " classes, got ", reid::shape_text(logits));
    const std::int64_t parts = reid::Parts(logits.size(1)).count;
    return reid::new_tensor(logits, {parts == 1 ? 0 : networks * rows * parts, sizeof(Part) / sizeof(double)},
                            reid::ScalarType::Double);
}

template <class Part>
Part* parts_of(const Tensor& room) {
    return static_cast<Part*>(room.mutable_data_ptr());
}

std::tuple<Tensor, Tensor, Tensor> co_refine_both(const char* op, const Tensor& a, const Tensor& b, bool both,
                                                  const reid::CoRefineWeights& weights) {
    return reid::co_refine_forward(op, a, b, both, weights, [&](const auto& problem) {
        const Tensor room = room_for_parts<reid::PairPart>(op, a, 2);
        reid::on_stream(a, [&](cudaStream_t stream) {
            reid::launch_co_refine(problem, parts_of<reid::PairPart>(room), stream);
        });
    });
}

std::tuple<Tensor, Tensor, Tensor> co_refine_pair(Tensor a, Tensor b, double soft, double agree, double disagree) {
    return co_refine_both("co_refine_pair", a, b, true, {soft, agree, disagree});
}

std::tuple<Tensor, Tensor> co_refine(Tensor logits, Tensor peer, double soft, double agree, double disagree) {
    const auto [loss, same, statistics] = co_refine_both("co_refine", logits, peer, false, {soft, agree, disagree});
    return {loss, statistics};
}

Tensor co_refine_backward(Tensor grad, Tensor logits, Tensor peer, Tensor statistics, std::int64_t learner, double soft,
                          double agree, double disagree) {
    return reid::co_refine_gradient(grad, logits, peer, statistics, learner, {soft, agree, disagree}, [&](const auto& problem) {
        reid::on_stream(logits, [&](cudaStream_t stream) { reid::launch_co_refine_backward(problem, stream); });
    });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(reid_core, CUDA, m) {
    m.impl("co_refine_pair", TORCH_BOX(&co_refine_pair));
    m.impl("co_refine", TORCH_BOX(&co_refine));
    m.impl("co_refine_backward", TORCH_BOX(&co_refine_backward));
}
