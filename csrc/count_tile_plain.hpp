// Counting non-matches in front of matches, a tile of distances at a time: the problem, and the plain way to solve it.
//
// For every match of a query, its distances sorted: how many non-matches lie behind the match before it and not behind
// itself, and how many of these lie at exactly its distance. All counts are whole numbers that are added up, so that
// neither the order of tiles, threads and devices nor their number can change a result.
#pragma once

#include <algorithm>
#include <cstdint>

namespace reid {

template <class Real>
struct CountTile {
    const Real* tile;             // (rows, columns) distances of queries to gallery images, `stride` from row to row
    std::int64_t rows;
    std::int64_t columns;
    std::int64_t stride;
    std::int64_t column;          // the gallery's place of the tile's first column
    const Real* thresholds;       // distances of the matches, ascending for each row
    const std::int64_t* starts;   // (rows + 1) where each row's matches begin in thresholds, between and tied
    const std::int64_t* low;      // (rows) gallery places low .. high are the row's own identity: not counted
    const std::int64_t* high;
    std::int64_t* between;        // added to
    std::int64_t* tied;
};

// Adds what one row counts. NaN is behind every match.
template <class Real>
void count_row(const CountTile<Real>& problem, std::int64_t row) {
    const Real* first = problem.thresholds + problem.starts[row];
    const Real* last = problem.thresholds + problem.starts[row + 1];
    if (first == last) return;
    const Real* distances = problem.tile + row * problem.stride;
    const std::int64_t low = problem.low[row] - problem.column;
    const std::int64_t high = problem.high[row] - problem.column;
    for (std::int64_t j = 0; j < problem.columns; ++j) {
        if ((low <= j && j < high) || !(distances[j] <= last[-1])) continue;
        const Real* place = std::lower_bound(first, last, distances[j]);
        const std::int64_t match = place - problem.thresholds;
        problem.between[match] += 1;
        problem.tied[match] += *place == distances[j];
    }
}

}  // namespace reid
