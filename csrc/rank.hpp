// Ranking measures of one query from one row of distances, exact and without sorting the gallery.
//
// Portable C++17, no Python and no torch. The definition is eval_lib/reference.py; this file must agree with it.
//
// A gallery image is kept for a query unless its pid is -1 (junk), or its pid and camid both equal the query's.
// Kept images are ranked by distance, non-matches first at equal distance, so a match at distance d stands behind
// every non-match with distance <= d and behind the matches nearer than itself. It is therefore enough to sort the few
// matches and to count, for each of them, the kept non-matches that are not farther. Counting is the work: count.hpp
// does it for all of the row, and what is not a kept non-match, a few images that are known by name, is taken off.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include "count.hpp"

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

// The gallery by identity, so that a query's few images are found without looking at all. Read-only once built.
class Gallery {
   public:
    struct Range {
        std::size_t begin, end;
    };

    Gallery() = default;
    Gallery(const std::int64_t* pids, const std::int64_t* camids, std::ptrdiff_t size)
        : columns_(static_cast<std::size_t>(size)), pids_(columns_.size()), camids_(columns_.size()) {
        sort(pids, size);
        for (std::size_t k = 0; k < columns_.size(); ++k) {
            pids_[k] = pids[columns_[k]];
            camids_[k] = camids[columns_[k]];
        }
        junk_ = of(junk_pid);
    }

    std::ptrdiff_t size() const { return static_cast<std::ptrdiff_t>(columns_.size()); }
    Range junk() const { return junk_; }
    std::ptrdiff_t column(std::size_t k) const { return columns_[k]; }
    std::int64_t camid(std::size_t k) const { return camids_[k]; }
    Range of(std::int64_t pid) const {
        const auto found = std::equal_range(pids_.begin(), pids_.end(), pid);
        return {static_cast<std::size_t>(found.first - pids_.begin()),
                static_cast<std::size_t>(found.second - pids_.begin())};
    }

   private:
    // Most data sets count identities from 0: then sorting is counting.
    void sort(const std::int64_t* pids, std::ptrdiff_t size) {
        const auto ends = std::minmax_element(pids, pids + size);
        const auto low = size ? static_cast<std::uint64_t>(*ends.first) : 0;
        const auto span = size ? static_cast<std::uint64_t>(*ends.second) - low : 0;
        if (span < 4 * static_cast<std::uint64_t>(size) + 1024) {
            std::vector<std::size_t> next(static_cast<std::size_t>(span) + 2, 0);
            for (std::ptrdiff_t j = 0; j < size; ++j) ++next[static_cast<std::uint64_t>(pids[j]) - low + 1];
            std::partial_sum(next.begin(), next.end(), next.begin());
            for (std::ptrdiff_t j = 0; j < size; ++j) columns_[next[static_cast<std::uint64_t>(pids[j]) - low]++] = j;
            return;
        }
        std::iota(columns_.begin(), columns_.end(), std::ptrdiff_t{0});
        std::sort(columns_.begin(), columns_.end(), [pids](std::ptrdiff_t a, std::ptrdiff_t b) {
            return pids[a] != pids[b] ? pids[a] < pids[b] : a < b;
        });
    }

    std::vector<std::ptrdiff_t> columns_;  // by pid, then in order
    std::vector<std::int64_t> pids_, camids_;
    Range junk_{0, 0};
};

// Memory that is reused from query to query; every call overwrites all that it reads.
template <class Real>
struct RankScratch {
    std::vector<Real> matches;     // distances of the matches, ascending
    std::vector<Real> left_out;    // distances of junk and of dropped images
    LevelCounts<Real> row, minus;  // counts for all of the row, and for what was left out
};

// Ranks one query; `own` are the gallery images of its identity, none for a junk query. `distances` has gallery.size()
// entries. Returns the column of the first that is NaN or infinite, or -1; only then `result` is set.
template <class Real>
std::ptrdiff_t rank_query(const Real* distances, const Gallery& gallery, Gallery::Range own, std::int64_t camid,
                          bool drop_same_camera, Isa isa, RankScratch<Real>& scratch, QueryRank& result) {
    result = QueryRank();
    auto& matches = scratch.matches;
    auto& left_out = scratch.left_out;
    auto& levels = scratch.row.levels;
    matches.clear();
    left_out.clear();
    bool finite = true;
    for (std::size_t k = own.begin; k < own.end; ++k) {
        const bool dropped = drop_same_camera && gallery.camid(k) == camid;
        const Real distance = distances[gallery.column(k)];
        (dropped ? left_out : matches).push_back(distance);
        finite = finite && is_finite(distance);
    }
    if (!finite) return first_not_finite(distances, gallery.size());  // they cannot be sorted
    result.num_dropped = static_cast<std::int64_t>(left_out.size());
    std::sort(matches.begin(), matches.end());
    levels.assign(matches.begin(), matches.end());
    levels.erase(std::unique(levels.begin(), levels.end()), levels.end());
    scratch.row.restart();
    const std::ptrdiff_t bad = count_values(distances, gallery.size(), scratch.row, isa);
    if (bad >= 0 || matches.empty()) return bad;
    finish(scratch.row);

    for (std::size_t k = gallery.junk().begin; k < gallery.junk().end; ++k) {
        left_out.push_back(distances[gallery.column(k)]);
    }
    scratch.minus.levels = levels;
    scratch.minus.restart();
    if (left_out.size() < 32) {
        count_by_search(left_out.data(), static_cast<std::ptrdiff_t>(left_out.size()), scratch.minus);
    } else {
        count_values(left_out.data(), static_cast<std::ptrdiff_t>(left_out.size()), scratch.minus, isa);
    }
    finish(scratch.minus);

    const std::size_t count = matches.size();
    double sum = 0.0;
    double sum_trapezoid = 0.0;
    std::int64_t rank = 0;
    for (std::size_t j = 0, level = 0; level < levels.size(); ++level) {
        std::size_t last = j + 1;
        while (last < count && matches[last] == matches[j]) ++last;
        const auto here = static_cast<std::int64_t>(last - j);  // matches at this distance
        // Non-matches in front of these: all that is not farther, without what was left out and without matches.
        const std::int64_t before =
            scratch.row.not_above[level] - scratch.minus.not_above[level] - static_cast<std::int64_t>(last);
        if (scratch.row.equal[level] - scratch.minus.equal[level] > here) result.num_tied += here;
        for (; j < last; ++j) {
            rank = static_cast<std::int64_t>(j) + before;
            if (j == 0) result.first_hit = rank;
            const double hits = static_cast<double>(j);
            const double precision = (hits + 1.0) / (static_cast<double>(rank) + 1.0);
            const double old_precision = rank == 0 ? 1.0 : hits / static_cast<double>(rank);
            sum += precision;
            sum_trapezoid += 0.5 * (precision + old_precision);
        }
    }
    const double total = static_cast<double>(count);
    result.num_matches = static_cast<std::int64_t>(count);
    result.ap = sum / total;
    result.ap_trapezoid = sum_trapezoid / total;
    result.inp = total / (static_cast<double>(rank) + 1.0);
    return -1;
}

// Where a distance stands that is NaN or infinite; row -1 for nowhere.
struct BadPosition {
    std::ptrdiff_t row = -1;
    std::ptrdiff_t column = -1;
};

// Ranks `rows` queries one after another; stops at the first row with a distance that is NaN or infinite, and says where
// it is. May be called from several threads at once.
// distances: rows x gallery.size(). q_pids, q_camids: rows.
// counts: rows x 4 (first_hit, num_matches, num_tied, num_dropped). scores: rows x 3 (ap, ap_trapezoid, inp).
template <class Real>
BadPosition rank_rows(const Real* distances, std::ptrdiff_t rows, const Gallery& gallery, const std::int64_t* q_pids,
                      const std::int64_t* q_camids, bool drop_same_camera, Isa isa, std::int64_t* counts,
                      double* scores) {
    RankScratch<Real> scratch;
    QueryRank one;
    // Junk is never kept, so a junk query has no match.
    const auto images = [&](std::int64_t pid) { return pid == junk_pid ? Gallery::Range{0, 0} : gallery.of(pid); };
    Gallery::Range own = rows ? images(q_pids[0]) : Gallery::Range{0, 0}, next = own;
    for (std::ptrdiff_t i = 0; i < rows; ++i, own = next) {
        const Real* row = distances + i * gallery.size();
        if (i + 1 < rows) {
            next = images(q_pids[i + 1]);
            // They are all over the next row, and first to be read there.
            for (std::size_t k = next.begin; k < next.end; ++k) prefetch(row + gallery.size() + gallery.column(k));
        }
        const std::ptrdiff_t column =
            rank_query(row, gallery, own, q_camids[i], drop_same_camera, isa, scratch, one);
        if (column >= 0) return {i, column};
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
