// What goes into the op count_tile is checked here, once, for every device.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <limits>

#include "count_tile_plain.hpp"

namespace reid {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline const char* device_name(const Tensor& tensor) { return tensor.is_cuda() ? "cuda" : tensor.is_cpu() ? "cpu" : "another device"; }

inline void check_vector(const char* name, const Tensor& values, const Tensor& tile, ScalarType type, std::int64_t size) {
    STD_TORCH_CHECK(values.scalar_type() == type, "count_tile: ", name, " must be ", torch::headeronly::toString(type),
                    ", got ", torch::headeronly::toString(values.scalar_type()));
    STD_TORCH_CHECK(values.dim() == 1 && values.is_contiguous(), "count_tile: ", name,
                    " must be one contiguous dimension, got ", values.dim(), " dimensions");
    STD_TORCH_CHECK(values.size(0) == size, "count_tile: ", name, " must have ", size, " entries, got ", values.size(0));
    STD_TORCH_CHECK(values.device() == tile.device(),
                    "count_tile: ", name, " is on ", device_name(values), ":", values.get_device_index(), ", the tile on ",
                    device_name(tile), ":", tile.get_device_index());
}

// `tile` has type Real. What lies in `starts` is not looked at: on a GPU that would mean waiting for it.
template <class Real>
CountTile<Real> checked_tile(const Tensor& tile, std::int64_t column, const Tensor& thresholds, const Tensor& starts,
                             const Tensor& low, const Tensor& high, const Tensor& between, const Tensor& tied) {
    STD_TORCH_CHECK(tile.dim() == 2, "count_tile: the tile must be (R, C), got ", tile.dim(), " dimensions");
    const std::int64_t rows = tile.size(0);
    const std::int64_t columns = tile.size(1);
    STD_TORCH_CHECK(rows == 0 || columns < 2 || tile.stride(1) == 1, "count_tile: columns of the tile must be neighbours, their stride is ",
                    tile.stride(1));
    constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
    STD_TORCH_CHECK(rows <= most && columns <= most, "count_tile: a tile has at most ", most, " rows and columns, got ", rows,
                    " and ", columns);
    STD_TORCH_CHECK(thresholds.dim() == 1, "count_tile: thresholds must be (M,), got ", thresholds.dim(), " dimensions");
    const std::int64_t matches = thresholds.size(0);
    check_vector("thresholds", thresholds, tile, tile.scalar_type(), matches);
    check_vector("starts", starts, tile, ScalarType::Long, rows + 1);
    check_vector("low", low, tile, ScalarType::Long, rows);
    check_vector("high", high, tile, ScalarType::Long, rows);
    check_vector("between", between, tile, ScalarType::Long, matches);
    check_vector("tied", tied, tile, ScalarType::Long, matches);
    return {
        tile.const_data_ptr<Real>(),
        rows,
        columns,
        tile.stride(0),
        column,
        thresholds.const_data_ptr<Real>(),
        starts.const_data_ptr<std::int64_t>(),
        low.const_data_ptr<std::int64_t>(),
        high.const_data_ptr<std::int64_t>(),
        between.mutable_data_ptr<std::int64_t>(),
        tied.mutable_data_ptr<std::int64_t>(),
    };
}

// Calls `use` with the checked problem, in the type of its distances.
template <class Use>
void with_checked_tile(const Tensor& tile, std::int64_t column, const Tensor& thresholds, const Tensor& starts,
                       const Tensor& low, const Tensor& high, const Tensor& between, const Tensor& tied, const Use& use) {
    const ScalarType type = tile.scalar_type();
    if (type == ScalarType::Float) {
        use(checked_tile<float>(tile, column, thresholds, starts, low, high, between, tied));
    } else if (type == ScalarType::Double) {
        use(checked_tile<double>(tile, column, thresholds, starts, low, high, between, tied));
    } else {
        STD_TORCH_CHECK(false, "count_tile: the tile must be float32 or float64, got ", torch::headeronly::toString(type));
    }
}

}  // namespace reid
