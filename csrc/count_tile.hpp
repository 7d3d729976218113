// Counting for a tile of distances: a few queries against a stretch of the gallery, when there is no whole row.
//
// The definition is Counts.add_tile in reid_core/metrics/_counting.py.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "count.hpp"

namespace reid {

// Adds what a tile shows. Row i is `tile + i * stride`; of its `width` numbers those from low[i] to high[i] belong to the
// query's own identity and are passed over. Its matches lie at thresholds[starts[i]] to thresholds[starts[i + 1]],
// ascending. between: numbers above the match before and at most at this one, at the first of equal matches; tied: those
// at exactly its distance. Returns false where a number is NaN or infinite; then the counts are of no use.
inline bool count_tile(const float* tile, std::ptrdiff_t stride, std::ptrdiff_t rows, std::ptrdiff_t width,
                       const std::int64_t* low, const std::int64_t* high, const float* thresholds,
                       const std::int64_t* starts, Isa isa, std::int64_t* between, std::int64_t* tied) {
    LevelCounts<float> counts;
    for (std::ptrdiff_t i = 0; i < rows; ++i) {
        const float* row = tile + i * stride;
        const float* begin = thresholds + starts[i];
        const float* end = thresholds + starts[i + 1];
        counts.levels.assign(begin, end);
        counts.levels.erase(std::unique(counts.levels.begin(), counts.levels.end()), counts.levels.end());
        counts.restart();
        if (count_values(row, low[i], counts, isa) >= 0) return false;
        if (count_values(row + high[i], width - high[i], counts, isa) >= 0) return false;
        finish(counts);
        std::ptrdiff_t match = starts[i];
        for (std::size_t level = 0; level < counts.levels.size(); ++level) {
            between[match] += counts.not_above[level] - (level ? counts.not_above[level - 1] : 0);
            tied[match] += counts.equal[level];
            while (match < starts[i + 1] && thresholds[match] == counts.levels[level]) ++match;
        }
    }
    return true;
}

}  // namespace reid
