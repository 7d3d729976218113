// The counting kernel of csrc/cuda and its plain twin, to be called with arrays by test_count_tile_kernel.py.
#include <cstdint>
#include <cstdio>

#include "count_tile_kernel.hpp"

namespace {

template <class Real>
void count(bool on_device, std::uint64_t seed, const reid::CountTile<Real>& problem, char* message, int size) {
    std::snprintf(message, size, "%s", "");
    try {
        cuda_on_host::seed = seed;
        if (on_device) {
            reid::launch_count_tile(problem, nullptr);
        } else {
            for (std::int64_t row = 0; row < problem.rows; ++row) reid::count_row(problem, row);
        }
    } catch (const std::exception& error) {
        std::snprintf(message, size, "%s", error.what());
    }
}

}  // namespace

#define COUNT(NAME, REAL)                                                                                              \
    extern "C" void NAME(bool on_device, std::uint64_t seed, const REAL* tile, std::int64_t rows, std::int64_t columns, \
                         std::int64_t stride, std::int64_t column, const REAL* thresholds, const std::int64_t* starts, \
                         const std::int64_t* low, const std::int64_t* high, std::int64_t* between, std::int64_t* tied, \
                         char* message, int size) {                                                                    \
        count<REAL>(on_device, seed,                                                                                   \
                    {tile, rows, columns, stride, column, thresholds, starts, low, high, between, tied}, message, size); \
    }

COUNT(count_float32, float)
COUNT(count_float64, double)
