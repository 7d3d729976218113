// Ranking measures of one query from one row of distances, exact and without sorting the gallery.
//
// Portable C++17, no Python and no torch. The definition is eval_lib/reference.py; this file must agree with it.
//
// A gallery image is kept for a query unless its pid is -1 (junk), or its pid and camid both equal the query's.
// Kept images are ranked by distance, non-matches first at equal distance, so a match at distance d stands behind
// every non-match with distance <= d and behind the matches nearer than itself. It is therefore enough to sort the few
// matches and to count, for each of them, the kept non-matches that are not farther.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace reid {

constexpr std::int64_t junk_pid = -1;

// What is known of one query. Without a match first_hit is -1 and ap, ap_trapezoid and inp are NaN.
struct QueryRank {
    std::int64_t first_hit = -1;   // 0-based rank of the first match
    std::int64_t num_matches = 0;  // kept images of the query's identity
    std::int64_t num_tied = 0;     // of these, the ones at exactly the distance of some kept non-match
    std::int64_t num_dropped = 0;  // left out for the same identity and camera
    double ap = std::numeric_limits<double>::quiet_NaN();            // step rule
    double ap_trapezoid = std::numeric_limits<double>::quiet_NaN();  // Market-1501's original rule
    double inp = std::numeric_limits<double>::quiet_NaN();           // matches / rank of the last one, from 1
};

struct Gallery {
    const std::int64_t* pids;
    const std::int64_t* camids;
    std::ptrdiff_t size;
};

// Memory that is reused from query to query; every call overwrites all that it reads.
template <class Real>
struct RankScratch {
    std::vector<Real> matches;          // distances of the matches, ascending
    std::vector<std::int64_t> nearer;   // per match: non-matches whose first match behind them is this one
    std::vector<unsigned char> tied;    // per match: a non-match lies at its distance
};

// Column of the first NaN, or -1.
template <class Real>
std::ptrdiff_t first_nan(const Real* distances, std::ptrdiff_t size) {
    for (std::ptrdiff_t j = 0; j < size; ++j) {
        if (distances[j] != distances[j]) return j;
    }
    return -1;
}

// Ranks one query. `distances` has gallery.size entries, none of them NaN.
template <class Real>
QueryRank rank_query(const Real* distances, const Gallery& gallery, std::int64_t pid, std::int64_t camid,
                     bool drop_same_camera, RankScratch<Real>& scratch) {
    QueryRank result;
    auto& matches = scratch.matches;
    matches.clear();
    if (pid == junk_pid) return result;  // junk is never kept, so nothing can match
    for (std::ptrdiff_t j = 0; j < gallery.size; ++j) {
        if (gallery.pids[j] != pid) continue;
        if (drop_same_camera && gallery.camids[j] == camid) {
            ++result.num_dropped;
        } else {
            matches.push_back(distances[j]);
        }
    }
    if (matches.empty()) return result;
    std::sort(matches.begin(), matches.end());

    const std::size_t count = matches.size();
    scratch.nearer.assign(count, 0);
    scratch.tied.assign(count, 0);
    const Real farthest = matches.back();
    for (std::ptrdiff_t j = 0; j < gallery.size; ++j) {
        const Real distance = distances[j];
        if (distance > farthest || gallery.pids[j] == pid || gallery.pids[j] == junk_pid) continue;
        const auto behind = std::lower_bound(matches.begin(), matches.end(), distance);
        const auto position = static_cast<std::size_t>(behind - matches.begin());
        ++scratch.nearer[position];
        if (*behind == distance) scratch.tied[position] = 1;
    }

    double sum = 0.0;
    double sum_trapezoid = 0.0;
    std::int64_t before = 0;  // non-matches in front of the current match
    std::int64_t rank = 0;
    for (std::size_t j = 0; j < count; ++j) {
        // lower_bound marks the first of equal matches only
        if (j > 0 && matches[j] == matches[j - 1]) scratch.tied[j] = scratch.tied[j - 1];
        before += scratch.nearer[j];
        rank = static_cast<std::int64_t>(j) + before;
        if (j == 0) result.first_hit = rank;
        const double hits = static_cast<double>(j);
        const double precision = (hits + 1.0) / (static_cast<double>(rank) + 1.0);
        const double old_precision = rank == 0 ? 1.0 : hits / static_cast<double>(rank);
        sum += precision;
        sum_trapezoid += 0.5 * (precision + old_precision);
        result.num_tied += scratch.tied[j];
    }
    const double total = static_cast<double>(count);
    result.num_matches = static_cast<std::int64_t>(count);
    result.ap = sum / total;
    result.ap_trapezoid = sum_trapezoid / total;
    result.inp = total / (static_cast<double>(rank) + 1.0);
    return result;
}

// Where a NaN stands; row -1 for nowhere.
struct NanPosition {
    std::ptrdiff_t row = -1;
    std::ptrdiff_t column = -1;
};

// Ranks `rows` queries one after another; stops at the first row with a NaN and says where it is.
// distances: rows x gallery.size. q_pids, q_camids: rows.
// counts: rows x 4 (first_hit, num_matches, num_tied, num_dropped). scores: rows x 3 (ap, ap_trapezoid, inp).
template <class Real>
NanPosition rank_rows(const Real* distances, std::ptrdiff_t rows, const Gallery& gallery, const std::int64_t* q_pids,
                      const std::int64_t* q_camids, bool drop_same_camera, std::int64_t* counts, double* scores) {
    RankScratch<Real> scratch;
    for (std::ptrdiff_t i = 0; i < rows; ++i) {
        const Real* row = distances + i * gallery.size;
        const std::ptrdiff_t column = first_nan(row, gallery.size);
        if (column >= 0) return {i, column};
        const QueryRank one = rank_query(row, gallery, q_pids[i], q_camids[i], drop_same_camera, scratch);
        std::int64_t* count = counts + 4 * i;
        count[0] = one.first_hit;
        count[1] = one.num_matches;
        count[2] = one.num_tied;
        count[3] = one.num_dropped;
        double* score = scores + 3 * i;
        score[0] = one.ap;
        score[1] = one.ap_trapezoid;
        score[2] = one.inp;
    }
    return {};
}

}  // namespace reid
