// The losses of one network on CUDA devices. The kernels stand in headers, where the tests can run them without a GPU.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <tuple>

#include "confidence_penalty_kernel.hpp"
#include "cross_entropy_kernel.hpp"
#include "label_check_kernel.hpp"
#include "on_stream.hpp"
#include "parts_room.hpp"
#include "row_loss_op.hpp"
#include "soft_target_kernel.hpp"

namespace {

using reid::MaybeTensor;
using torch::stable::Tensor;

// With REID_CORE_CHECK_LABELS=1 a wrong label is an error as on the CPU, and every call waits for the device. Without,
// its row is NaN.
template <class Problem>
void check_label_values(const char* op, const Tensor& logits, const Problem& problem) {
    const char* flag = std::getenv("REID_CORE_CHECK_LABELS");
    if (flag == nullptr || std::string(flag) != "1") return;
    const Tensor found = reid::new_tensor(logits, {2}, reid::ScalarType::Long);
    reid::WrongLabel wrong{};
    reid::on_stream(logits, [&](cudaStream_t stream) {
        auto* const on_device = static_cast<reid::WrongLabel*>(found.mutable_data_ptr());
        reid::launch_find_wrong_label(problem.labels, problem.rows, problem.classes, on_device, stream);
        STD_CUDA_CHECK(cudaMemcpyAsync(&wrong, on_device, sizeof(wrong), cudaMemcpyDeviceToHost, stream));
        STD_CUDA_CHECK(cudaStreamSynchronize(stream));
    });
    STD_TORCH_CHECK(wrong.row < 0, op, ": labels must lie in [0, ", problem.classes, "), got ", wrong.label, " at row ",
                    wrong.row, "; relabel pids first");
}

std::tuple<Tensor, Tensor> cross_entropy(Tensor logits, Tensor labels, MaybeTensor shift, double given, double own,
                                         double smoothing) {
    return reid::cross_entropy_forward(logits, labels, shift, {given, own, smoothing}, [&](const auto& problem) {
        check_label_values("cross_entropy", logits, problem);
        const reid::PartsRoom<reid::RowPart> room("cross_entropy", logits, 1);
        reid::on_stream(logits, [&](cudaStream_t stream) {
            reid::launch_cross_entropy(problem, room.first(), stream);
        });
    });
}

Tensor cross_entropy_backward(Tensor grad, Tensor logits, Tensor labels, MaybeTensor shift, Tensor statistics,
                              double given, double own, double smoothing) {
    const reid::CrossEntropyWeights weights{given, own, smoothing};
    return reid::cross_entropy_gradient(grad, logits, labels, shift, statistics, weights, [&](const auto& problem) {
        reid::on_stream(logits, [&](cudaStream_t stream) { reid::launch_cross_entropy_backward(problem, stream); });
    });
}

std::tuple<Tensor, Tensor> soft_target_cross_entropy(Tensor logits, Tensor targets) {
    return reid::soft_target_forward(logits, targets, [&](const auto& problem) {
        const reid::PartsRoom<reid::RowPart> room("soft_target_cross_entropy", logits, 1);
        reid::on_stream(logits, [&](cudaStream_t stream) { reid::launch_soft_target(problem, room.first(), stream); });
    });
}

Tensor soft_target_cross_entropy_backward(Tensor grad, Tensor logits, Tensor targets, Tensor statistics) {
    return reid::soft_target_gradient(grad, logits, targets, statistics, [&](const auto& problem) {
        reid::on_stream(logits, [&](cudaStream_t stream) { reid::launch_soft_target_backward(problem, stream); });
    });
}

std::tuple<Tensor, Tensor> confidence_penalty(Tensor logits) {
    return reid::confidence_penalty_forward(logits, [&](const auto& problem) {
        const reid::PartsRoom<reid::RowPart> room("confidence_penalty", logits, 1);
        reid::on_stream(logits, [&](cudaStream_t stream) {
            reid::launch_confidence_penalty(problem, room.first(), stream);
        });
    });
}

Tensor confidence_penalty_backward(Tensor grad, Tensor logits, Tensor statistics) {
    return reid::confidence_penalty_gradient(grad, logits, statistics, [&](const auto& problem) {
        reid::on_stream(logits, [&](cudaStream_t stream) {
            reid::launch_confidence_penalty_backward(problem, stream);
        });
    });
}

std::tuple<Tensor, Tensor> peer_statistics(Tensor a, Tensor b, Tensor labels) {
    return reid::peer_statistics_of(a, b, labels, [&](const auto& problem) {
        check_label_values("peer_statistics", a, problem);
        const reid::PartsRoom<reid::RowPart> room("peer_statistics", a, 1);
        reid::on_stream(a, [&](cudaStream_t stream) { reid::launch_peer_statistics(problem, room.first(), stream); });
    });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(reid_core, CUDA, m) {
    m.impl("cross_entropy", TORCH_BOX(&cross_entropy));
    m.impl("cross_entropy_backward", TORCH_BOX(&cross_entropy_backward));
    m.impl("soft_target_cross_entropy", TORCH_BOX(&soft_target_cross_entropy));
    m.impl("soft_target_cross_entropy_backward", TORCH_BOX(&soft_target_cross_entropy_backward));
    m.impl("confidence_penalty", TORCH_BOX(&confidence_penalty));
    m.impl("confidence_penalty_backward", TORCH_BOX(&confidence_penalty_backward));
    m.impl("peer_statistics", TORCH_BOX(&peer_statistics));
}
