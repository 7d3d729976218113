// Memory for what the blocks of a row leave to each other.
#pragma once

#include <climits>
#include <cstdint>

#include "loss_op.hpp"
#include "row_blocks.hpp"

namespace reid {

// `networks` parts for each block, on the device of the logits; none where a row has one block. Torch gives the memory
// to nobody else before kernels that were started on this stream have ended.
template <class Part>
class PartsRoom {
  public:
    PartsRoom(const char* op, const Tensor& logits, std::int64_t networks) : room_(made(op, logits, networks)) {}
    Part* first() const { return static_cast<Part*>(room_.mutable_data_ptr()); }

  private:
    static Tensor made(const char* op, const Tensor& logits, std::int64_t networks) {
        constexpr std::int64_t most_classes = 65535 * row_share;
        STD_TORCH_CHECK(logits.size(0) <= INT_MAX && logits.size(1) <= most_classes, op, ": a GPU takes at most ",
                        INT_MAX, " rows and ", most_classes, " classes, got ", shape_text(logits));
        const std::int64_t parts = Parts(logits.size(1)).count;
        const std::int64_t numbers = sizeof(Part) / sizeof(double);
        return new_tensor(logits, {parts == 1 ? 0 : networks * logits.size(0) * parts, numbers}, ScalarType::Double);
    }

    Tensor room_;
};

}  // namespace reid
