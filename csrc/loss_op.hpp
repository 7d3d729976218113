// What goes into the fused losses is checked here, once, for every device.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>

#include "loss_problems.hpp"

namespace reid {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline std::string shape_text(const Tensor& tensor) {
    std::string text = "(";
    for (std::int64_t i = 0; i < tensor.dim(); ++i) text += (i ? ", " : "") + std::to_string(tensor.size(i));
    return text + ")";
}

inline std::string device_text(const Tensor& tensor) {
    const char* type = tensor.is_cuda() ? "cuda" : tensor.is_cpu() ? "cpu" : "another device";
    return tensor.is_cuda() ? type + (":" + std::to_string(tensor.get_device_index())) : type;
}

inline void check_logits(const char* op, const char* name, const Tensor& logits) {
    STD_TORCH_CHECK(logits.dim() == 2, op, ": ", name, " must be (B, C), got ", shape_text(logits));
    STD_TORCH_CHECK(logits.size(1) > 0, op, ": ", name, " must have at least one class, got ", shape_text(logits));
}

inline void check_same_device(const char* op, const char* name, const Tensor& tensor, const Tensor& logits) {
    STD_TORCH_CHECK(tensor.device() == logits.device(), op, ": ", name, " is on ", device_text(tensor), ", the logits on ",
                    device_text(logits));
}

inline void check_type(const char* op, const char* name, const Tensor& tensor, ScalarType type) {
    STD_TORCH_CHECK(tensor.scalar_type() == type, op, ": ", name, " must be ", torch::headeronly::toString(type), ", got ",
                    torch::headeronly::toString(tensor.scalar_type()));
}

// (rows) of a type; any stride.
inline void check_column(const char* op, const char* name, const Tensor& column, const Tensor& logits, ScalarType type) {
    STD_TORCH_CHECK(column.dim() == 1 && column.size(0) == logits.size(0), op, ": ", name, " must be (", logits.size(0),
                    ",) for logits ", shape_text(logits), ", got ", shape_text(column));
    check_type(op, name, column, type);
    check_same_device(op, name, column, logits);
}

inline void check_pair(const char* op, const Tensor& logits, const Tensor& other) {
    check_logits(op, "logits", logits);
    STD_TORCH_CHECK(other.dim() == 2 && other.size(0) == logits.size(0) && other.size(1) == logits.size(1), op,
                    ": both networks' logits must agree in shape, got ", shape_text(logits), " and ", shape_text(other));
    STD_TORCH_CHECK(other.scalar_type() == logits.scalar_type(), op, ": both networks' logits must have one type, got ",
                    torch::headeronly::toString(logits.scalar_type()), " and ",
                    torch::headeronly::toString(other.scalar_type()));
    STD_TORCH_CHECK(other.device() == logits.device(), op, ": both networks' logits must be on one device, got ",
                    device_text(logits), " and ", device_text(other));
}

inline void check_weight(const char* op, const char* name, double weight) {
    STD_TORCH_CHECK(weight >= 0, op, ": ", name, " must be at least 0, got ", weight);
}

inline void check_statistics(const char* op, const Tensor& statistics, const Tensor& logits, std::int64_t networks) {
    STD_TORCH_CHECK(statistics.is_contiguous() && statistics.numel() == networks * logits.size(0) * 3, op,
                    ": the forward pass gives ", networks * logits.size(0) * 3, " statistics for logits ",
                    shape_text(logits), ", got ", shape_text(statistics));
    check_type(op, "statistics", statistics, ScalarType::Double);
    check_same_device(op, "statistics", statistics, logits);
}

// The classes that statistics name, where they can be looked at without waiting for a device. `part`: the logits may be
// those of some classes, and a negative number is a class that is not among them.
inline void check_classes(const char* op, const Tensor& statistics, const Tensor& logits, bool part) {
    if (!statistics.is_cpu()) return;
    const double least = part ? -9007199254740992.0 : 0.0;  // whole numbers have no gaps in between
    const double* values = statistics.const_data_ptr<double>();
    for (std::int64_t i = 2; i < statistics.numel(); i += 3) {
        STD_TORCH_CHECK(least <= values[i] && values[i] < static_cast<double>(logits.size(1)), op, ": statistics name class ",
                        values[i], ", classes lie in [0, ", logits.size(1), "); pass what the forward pass gave");
    }
}

inline ScalarType loss_type(const Tensor& logits) {
    return logits.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

// A contiguous tensor on the device of `like`; torch::stable::empty would go through the dispatcher, which at 32 x 751 is
// felt.
inline Tensor new_tensor(const Tensor& like, std::initializer_list<std::int64_t> sizes, ScalarType type) {
    std::int64_t strides[3] = {1, 1, 1};
    const auto dims = static_cast<std::int64_t>(sizes.size());
    for (std::int64_t i = dims - 2; i >= 0; --i) strides[i] = strides[i + 1] * std::max<std::int64_t>(1, sizes.begin()[i + 1]);
    const auto of_torch = torch::stable::detail::to<std::int32_t>(torch::stable::detail::from(type));
    const auto device = like.is_cuda() ? aoti_torch_device_type_cuda() : aoti_torch_device_type_cpu();
    AtenTensorHandle made = nullptr;
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(dims, sizes.begin(), strides, of_torch, device,
                                                           like.get_device_index(), &made));
    return Tensor(made);
}

// Rows may be apart; where classes are not neighbours, a copy in which they are.
inline Tensor with_neighbours(const Tensor& rows) {
    if (rows.size(1) == 1 || rows.stride(1) == 1) return rows;
    return torch::stable::contiguous(rows);
}

template <class Real>
Rows<Real> rows_of(const Tensor& tensor) {
    return {static_cast<const Real*>(tensor.const_data_ptr()), tensor.stride(0)};
}

template <class Real>
Column<Real> column_of(const Tensor& tensor) {
    return {static_cast<const Real*>(tensor.const_data_ptr()), tensor.stride(0)};
}

// Calls `use` with a number of the type of the logits.
template <class Use>
void with_type(const char* op, const Tensor& logits, const Use& use) {
    switch (logits.scalar_type()) {
        case ScalarType::Float: return use(float{});
        case ScalarType::Double: return use(double{});
        case ScalarType::BFloat16: return use(BFloat16{});
        case ScalarType::Half: return use(Float16{});
        default:
            STD_TORCH_CHECK(false, op, ": logits must be float32, float64, bfloat16 or float16, got ",
                            torch::headeronly::toString(logits.scalar_type()));
    }
}

}  // namespace reid
