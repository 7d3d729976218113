// How many numbers of a row lie at or below each of a few levels, exactly, in one pass over memory.
//
// The levels of a query are the distances of its matches, sorted and without repeats. A row is taken in blocks that stay
// in the first cache. A block is first searched for its minimum and for what is not finite; levels below the minimum
// need nothing more. The others are counted by whichever of three ways is cheapest, all of them exact:
//   direct    every number is compared with every level;
//   tree      every number walks a search tree of up to 15 levels that lies in registers (AVX2, AVX-512);
//   buckets   for many levels: a monotone map sends numbers to buckets; only those that share a bucket with a level are
//             compared.
// Results are whole numbers, so neither the way nor the width of a vector can change them.
#pragma once

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "isa.hpp"

namespace reid {

constexpr std::ptrdiff_t block_size = 512;

template <class Real>
inline bool is_finite(Real value) {
    return std::abs(value) <= std::numeric_limits<Real>::max();
}

// Column of the first NaN or infinity, or -1.
template <class Real>
std::ptrdiff_t first_not_finite(const Real* values, std::ptrdiff_t size) {
    for (std::ptrdiff_t j = 0; j < size; ++j) {
        if (!is_finite(values[j])) return j;
    }
    return -1;
}

// Minimum of a block; meaningless where the block is not finite.
template <class Real>
struct Summary {
    Real low;
    bool finite;
};

// Sends numbers to buckets, never reversing their order. Built for one row. Bucket 0 is for what is well below the first
// level and the last one for what is well above the last level.
template <class Real>
struct Buckets {
    using Int = std::conditional_t<sizeof(Real) == 4, std::int32_t, std::int64_t>;
    static constexpr std::uint16_t shared = 0x8000;

    Real low = 0;
    Real scale = 0;
    Real top = 0;  // position of the last bucket; that of the first is -1
    bool usable = false;
    std::vector<std::uint16_t> place;  // per bucket: levels in buckets before it; `shared` is set where it has levels
    std::vector<std::int64_t> hits;    // four times, so that neighbours do not wait for each other: gaps 0 .. levels
    Int found[block_size];

    // 1.5 * 2^23 and 1.5 * 2^52, and 1 for the first bucket: adding this rounds a small number to a whole one, which
    // can then be read in the low bits.
    static constexpr Real magic() { return sizeof(Real) == 4 ? Real(12582913) : Real(6755399441055745); }
};

// The levels of one row and what was counted for them.
template <class Real>
struct LevelCounts {
    std::vector<Real> levels;             // ascending, all different, finite
    std::vector<std::int64_t> not_above;  // [k]: numbers at or below level k
    std::vector<std::int64_t> equal;      // [k]: numbers at exactly level k
    std::vector<std::int64_t> gaps;       // what is to be added to `not_above`: numbers above level k - 1, at most level k
    Buckets<Real> buckets;
    bool buckets_ready = false;
    bool searched = false;

    // Forgets the counts; to be called whenever `levels` has changed.
    void restart() {
        not_above.assign(levels.size(), 0);
        equal.assign(levels.size(), 0);
        buckets_ready = searched = false;
    }
};

// The bucket of one number; count_body.hpp does the same to whole vectors. No product meets a sum without a comparison
// between, so no compiler can contract them, and every step keeps the order.
template <class Real>
inline std::size_t bucket_of(Real value, const Buckets<Real>& buckets) {
    Real position = (value - buckets.low) * buckets.scale;
    position = position > -1 ? position : -1;
    position = position < buckets.top ? position : buckets.top;
    position += Buckets<Real>::magic();
    typename Buckets<Real>::Int bits;
    std::memcpy(&bits, &position, sizeof(bits));
    return static_cast<std::size_t>(bits & 0xffff);
}

template <class Real>
void build_buckets(LevelCounts<Real>& counts) {
    auto& buckets = counts.buckets;
    const auto& levels = counts.levels;
    counts.buckets_ready = true;
    buckets.usable = false;
    std::size_t size = 1024;
    while (size < 128 * levels.size() && size < 8192) size *= 2;
    buckets.low = levels.front();
    buckets.top = static_cast<Real>(size - 2);
    buckets.scale = (buckets.top - 1) / (levels.back() - levels.front());
    // Spans that overflow, or that are too small to divide by, have no such map; nor have wider intermediate results.
    if (!std::isnormal(buckets.scale) || levels.size() >= Buckets<Real>::shared || FLT_EVAL_METHOD != 0) return;
    buckets.usable = true;
    buckets.place.assign(size, 0);
    std::size_t done = 0;
    for (std::size_t k = 0; k < levels.size(); ++k) {
        const std::size_t bucket = bucket_of(levels[k], buckets);
        if (k > 0 && bucket + 1 == done) continue;  // it holds the level before, too
        for (; done < bucket; ++done) buckets.place[done] = static_cast<std::uint16_t>(k);
        buckets.place[done++] = static_cast<std::uint16_t>(k | Buckets<Real>::shared);
    }
    for (; done < size; ++done) buckets.place[done] = static_cast<std::uint16_t>(levels.size());
    buckets.hits.assign(4 * (levels.size() + 1), 0);
}

// Levels that are smaller than every number from `low` on.
template <class Real>
inline std::size_t levels_below(const LevelCounts<Real>& counts, Real low) {
    const auto& levels = counts.levels;
    if (levels.size() > 64) {
        return static_cast<std::size_t>(std::lower_bound(levels.begin(), levels.end(), low) - levels.begin());
    }
    std::size_t below = 0;
    for (const Real level : levels) below += level < low;
    return below;
}

// Adds one number to the counts by binary search.
template <class Real>
inline std::size_t count_one(Real value, LevelCounts<Real>& counts) {
    const auto& levels = counts.levels;
    const auto at = static_cast<std::size_t>(std::lower_bound(levels.begin(), levels.end(), value) - levels.begin());
    if (at < levels.size() && levels[at] == value) ++counts.equal[at];
    return at;
}

template <class Real>
void count_by_search(const Real* values, std::ptrdiff_t size, LevelCounts<Real>& counts) {
    if (!counts.searched) counts.gaps.assign(counts.levels.size() + 1, 0);
    counts.searched = true;
    for (std::ptrdiff_t j = 0; j < size; ++j) ++counts.gaps[count_one(values[j], counts)];
}

// `buckets.found` holds the bucket of each of the values.
template <class Real>
void count_by_buckets(const Real* values, std::ptrdiff_t size, LevelCounts<Real>& counts) {
    auto& buckets = counts.buckets;
    const std::size_t stride = counts.levels.size() + 1;
    std::int64_t* hits = buckets.hits.data();
    const std::uint16_t* places = buckets.place.data();
    for (std::ptrdiff_t j = 0; j < size; ++j) {
        std::size_t place = places[static_cast<std::size_t>(buckets.found[j])];
        if (place & Buckets<Real>::shared) place = count_one(values[j], counts);
        ++hits[static_cast<std::size_t>(j & 3) * stride + place];
    }
}

}  // namespace reid

#define REID_ISA_NAMESPACE plain
#include "count_body.hpp"
#undef REID_ISA_NAMESPACE

#if defined(REID_HAS_VECTORS)
#define REID_ISA_NAMESPACE vector128
#define REID_VECTOR_BYTES 16
#include "count_body.hpp"
#undef REID_ISA_NAMESPACE
#undef REID_VECTOR_BYTES
#endif

#if defined(REID_HAS_AVX)
REID_BEGIN_TARGET("avx2")
#define REID_ISA_NAMESPACE avx2
#define REID_VECTOR_BYTES 32
#define REID_TREE_BYTES 32
#include "count_body.hpp"
#undef REID_ISA_NAMESPACE
#undef REID_TREE_BYTES
REID_END_TARGET

#if !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12's own header of AVX-512 is not clean
#endif
REID_BEGIN_TARGET("avx512f,avx512dq")
#define REID_ISA_NAMESPACE avx512
#define REID_TREE_BYTES 64  // only the tree gains from it: comparisons of 64 bytes give bits that have to be spread again
#include "count_body.hpp"
#undef REID_ISA_NAMESPACE
#undef REID_VECTOR_BYTES
#undef REID_TREE_BYTES
REID_END_TARGET
#if !defined(__clang__)
#pragma GCC diagnostic pop
#endif
#endif

namespace reid {

// Adds `size` values to the counts. Returns -1, or the column of the first value that is NaN or infinite; then the
// counts are of no use. Without levels it only looks for such a value.
template <class Real>
std::ptrdiff_t count_values(const Real* values, std::ptrdiff_t size, LevelCounts<Real>& counts, Isa isa) {
    switch (isa) {
#if defined(REID_HAS_AVX)
        case Isa::avx512: return avx512::count_blocks(values, size, counts);
        case Isa::avx2: return avx2::count_blocks(values, size, counts);
#endif
#if defined(REID_HAS_VECTORS)
        case Isa::vector128: return vector128::count_blocks(values, size, counts);
#endif
        default: return plain::count_blocks(values, size, counts);
    }
}

// Brings all to `not_above`; to be called once after the last values of a row.
template <class Real>
void finish(LevelCounts<Real>& counts) {
    const std::size_t size = counts.levels.size();
    if (counts.searched) {
        std::int64_t sum = 0;
        for (std::size_t k = 0; k < size; ++k) counts.not_above[k] += sum += counts.gaps[k];
    }
    if (counts.buckets_ready && counts.buckets.usable) {
        const std::int64_t* hits = counts.buckets.hits.data();
        std::int64_t sum = 0;
        for (std::size_t k = 0; k < size; ++k) {
            for (std::size_t copy = 0; copy < 4; ++copy) sum += hits[copy * (size + 1) + k];
            counts.not_above[k] += sum;
        }
    }
    counts.searched = counts.buckets_ready = false;
}

}  // namespace reid
