// The counting kernel with made-up distances, for sanitizers: prints nothing where the counts are those of its plain
// twin. "race" and "outside" run a kernel that is wrong, to show that the sanitizers are awake.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "count_tile_kernel.hpp"

namespace {

// Every array is a heap block of exactly its size.
template <class Real>
bool same_as_plain(std::int64_t rows, std::int64_t columns, std::int64_t matches) {
    std::vector<Real> tile(rows * columns), thresholds(rows * matches);
    std::vector<std::int64_t> starts(rows + 1), low(rows), high(rows);
    for (std::int64_t i = 0; i < rows * columns; ++i) tile[i] = static_cast<Real>(i * 7919 % 1000);
    for (std::int64_t i = 0; i <= rows; ++i) starts[i] = i * matches;
    for (std::int64_t i = 0; i < rows * matches; ++i) thresholds[i] = static_cast<Real>(i % matches * 900 / matches);
    for (std::int64_t i = 0; i < rows; ++i) low[i] = 3 * i, high[i] = 3 * i + columns / 9;
    std::vector<std::int64_t> between(rows * matches), tied(rows * matches), plain_between(between), plain_tied(tied);
    reid::CountTile<Real> problem{tile.data(), rows,       columns,     columns,        0,          thresholds.data(),
                                  starts.data(), low.data(), high.data(), between.data(), tied.data()};
    reid::launch_count_tile(problem, nullptr);
    problem.between = plain_between.data();
    problem.tied = plain_tied.data();
    for (std::int64_t row = 0; row < rows; ++row) reid::count_row(problem, row);
    return between == plain_between && tied == plain_tied;
}

// Each thread adds to its neighbour's number: without a barrier, a race that the order of the threads does not show.
__global__ void adds_to_a_neighbour(int* out) {
    REID_SHARED(int, sums, 64);
    if (threadIdx.x == 0)
        for (int& sum : sums) sum = 0;
    __syncthreads();
    sums[threadIdx.x / 2] += 1;
    __syncthreads();
    if (threadIdx.x == 0) *out = sums[0];
}

__global__ void writes_outside(int by) {
    REID_SHARED(int, values, 64);
    int* const first = values;
    first[threadIdx.x + by] = 1;
}

}  // namespace

int main(int count, char** arguments) {
    if (count > 1 && std::strcmp(arguments[1], "race") == 0) {
        int out = 0;
        REID_LAUNCH(adds_to_a_neighbour, dim3(1), dim3(64), nullptr, &out);
        return out == 2 ? 0 : 1;
    }
    if (count > 1 && std::strcmp(arguments[1], "outside") == 0) {
        REID_LAUNCH(writes_outside, dim3(1), dim3(64), nullptr, 1);
        return 0;
    }
    for (cuda_on_host::seed = 0; cuda_on_host::seed < 2; ++cuda_on_host::seed) {
        for (const std::int64_t matches : {0, 1, 40, 1024, 1025})
            if (!same_as_plain<float>(2, 300, matches)) return std::printf("float, %d matches\n", int(matches)), 1;
        if (!same_as_plain<double>(1, 4100, 50)) return std::printf("double, two shares of a row\n"), 1;
    }
    return 0;
}
