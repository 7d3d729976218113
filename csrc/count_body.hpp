// The part of count.hpp that is compiled once for each instruction set: included with REID_ISA_NAMESPACE set and, unless
// the code is to be plain, REID_VECTOR_BYTES; REID_TREE_BYTES where numbers can be looked up in a register. No include
// guard, that is the point.

namespace reid {
namespace REID_ISA_NAMESPACE {

#if defined(REID_VECTOR_BYTES)

// Vectors of a type and a width. A true lane of a comparison is -1 in a Mask.
template <class Real, int bytes = REID_VECTOR_BYTES>
struct Lanes;

template <int bytes>
struct Lanes<float, bytes> {
    using Int = std::int32_t;
    typedef float Vector __attribute__((vector_size(bytes)));
    typedef std::int32_t Mask __attribute__((vector_size(bytes)));
    static constexpr std::ptrdiff_t width = bytes / 4;
    static constexpr Int magnitude = 0x7fffffff;
    static constexpr Int infinity = 0x7f800000;
};

template <int bytes>
struct Lanes<double, bytes> {
    using Int = std::int64_t;
    typedef double Vector __attribute__((vector_size(bytes)));
    typedef std::int64_t Mask __attribute__((vector_size(bytes)));
    static constexpr std::ptrdiff_t width = bytes / 8;
    static constexpr Int magnitude = 0x7fffffffffffffff;
    static constexpr Int infinity = 0x7ff0000000000000;
};

template <class Vector, class Real>
inline Vector load(const Real* from) {
    Vector vector;
    std::memcpy(&vector, from, sizeof(vector));
    return vector;
}

// The last numbers of a row, fewer than a vector holds, and `padding` behind them.
template <class Vector, class Real>
inline Vector load_tail(const Real* from, std::ptrdiff_t size, Real padding) {
    constexpr std::size_t width = sizeof(Vector) / sizeof(Real);
    Real all[width];
    for (std::size_t j = 0; j < width; ++j) all[j] = padding;
    std::memcpy(all, from, static_cast<std::size_t>(size) * sizeof(Real));
    return load<Vector>(all);
}

template <class Vector, class Real>
inline Vector filled(Real value) {
    return value - Vector{};
}

// From the sums of true lanes to their number.
template <class Int, class Mask>
inline std::int64_t number_true(Mask sums) {
    typedef Int Part __attribute__((vector_size(16)));
    constexpr std::size_t count = sizeof(Mask) / 16;
    Part parts[count];
    std::memcpy(parts, &sums, sizeof(parts));
    for (std::size_t k = 1; k < count; ++k) parts[0] += parts[k];
    Int sum = 0;
    for (std::size_t j = 0; j < 16 / sizeof(Int); ++j) sum += parts[0][j];
    return -static_cast<std::int64_t>(sum);
}

template <class Real>
inline Summary<Real> summarise(const Real* values, std::ptrdiff_t size) {
    using L = Lanes<Real>;
    using Vector = typename L::Vector;
    using Mask = typename L::Mask;
    Vector low[4];
    Mask top[4];
    for (int k = 0; k < 4; ++k) {
        low[k] = filled<Vector>(values[0]);
        top[k] = Mask{};
    }
    const auto take = [&](int k, Vector vector) {
        Mask bits;
        std::memcpy(&bits, &vector, sizeof(bits));
        bits &= L::magnitude;
        top[k] = bits > top[k] ? bits : top[k];  // as whole numbers, infinity and NaN are above all others
        low[k] = vector < low[k] ? vector : low[k];
    };
    std::ptrdiff_t j = 0;
    for (; j + 4 * L::width <= size; j += 4 * L::width) {
        for (int k = 0; k < 4; ++k) take(k, load<Vector>(values + j + k * L::width));
        // The next block is to come from memory while this one is counted.
        for (int k = 0; k < 4; k += 64 / REID_VECTOR_BYTES) prefetch(values + j + k * L::width + block_size);
    }
    for (; j + L::width <= size; j += L::width) take(0, load<Vector>(values + j));
    if (j < size) take(1, load_tail<Vector>(values + j, size - j, values[0]));
    for (int k = 1; k < 4; ++k) {
        top[0] = top[k] > top[0] ? top[k] : top[0];
        low[0] = low[k] < low[0] ? low[k] : low[0];
    }
    typename Lanes<Real, 16>::Vector lows[REID_VECTOR_BYTES / 16];
    typename Lanes<Real, 16>::Mask tops[REID_VECTOR_BYTES / 16];
    std::memcpy(lows, &low[0], sizeof(lows));
    std::memcpy(tops, &top[0], sizeof(tops));
    for (int k = 1; k < REID_VECTOR_BYTES / 16; ++k) {
        tops[0] = tops[k] > tops[0] ? tops[k] : tops[0];
        lows[0] = lows[k] < lows[0] ? lows[k] : lows[0];
    }
    Real lowest = lows[0][0];
    typename L::Int topmost = tops[0][0];
    for (std::size_t k = 1; k < 16 / sizeof(Real); ++k) {
        lowest = lows[0][k] < lowest ? lows[0][k] : lowest;
        topmost = tops[0][k] > topmost ? tops[0][k] : topmost;
    }
    return {lowest, topmost < L::infinity};
}

// Counts for N levels from `first` on.
template <int N, class Real>
inline void count_direct(const Real* values, std::ptrdiff_t size, std::size_t first, LevelCounts<Real>& counts) {
    using L = Lanes<Real>;
    using Vector = typename L::Vector;
    using Mask = typename L::Mask;
    Vector level[N];
    Mask not_above[N], equal[N];
    for (int k = 0; k < N; ++k) {
        level[k] = filled<Vector>(counts.levels[first + static_cast<std::size_t>(k)]);
        not_above[k] = equal[k] = Mask{};
    }
    const auto take = [&](Vector vector) {
        for (int k = 0; k < N; ++k) {
            not_above[k] += vector <= level[k];
            equal[k] += vector == level[k];
        }
    };
    std::ptrdiff_t j = 0;
    for (; j + L::width <= size; j += L::width) take(load<Vector>(values + j));
    if (j < size) take(load_tail<Vector>(values + j, size - j, std::numeric_limits<Real>::infinity()));
    for (int k = 0; k < N; ++k) {
        const std::size_t at = first + static_cast<std::size_t>(k);
        counts.not_above[at] += number_true<typename L::Int>(not_above[k]);
        counts.equal[at] += number_true<typename L::Int>(equal[k]);
    }
}

template <class Real>
inline void count_all_direct(const Real* values, std::ptrdiff_t size, std::size_t first, LevelCounts<Real>& counts) {
    std::size_t left = counts.levels.size() - first;
    for (; left >= 4; left -= 4, first += 4) count_direct<4>(values, size, first, counts);
    if (left == 3) count_direct<3>(values, size, first, counts);
    if (left == 2) count_direct<2>(values, size, first, counts);
    if (left == 1) count_direct<1>(values, size, first, counts);
}

template <class Real>
inline void find_buckets(const Real* values, std::ptrdiff_t size, Buckets<Real>& buckets) {
    using L = Lanes<Real>;
    using Vector = typename L::Vector;
    const auto low = filled<Vector>(buckets.low), scale = filled<Vector>(buckets.scale);
    const auto bottom = filled<Vector>(Real(-1)), top = filled<Vector>(buckets.top);
    const auto magic = filled<Vector>(Buckets<Real>::magic());
    std::ptrdiff_t j = 0;
    for (; j + L::width <= size; j += L::width) {
        Vector position = (load<Vector>(values + j) - low) * scale;
        position = position > bottom ? position : bottom;
        position = position < top ? position : top;
        position += magic;
        typename L::Mask bits;
        std::memcpy(&bits, &position, sizeof(bits));
        bits &= 0xffff;
        std::memcpy(buckets.found + j, &bits, sizeof(bits));
    }
    for (; j < size; ++j) buckets.found[j] = static_cast<typename L::Int>(bucket_of(values[j], buckets));
}

#else  // plain

template <class Real>
inline Summary<Real> summarise(const Real* values, std::ptrdiff_t size) {
    Summary<Real> result{values[0], true};
    for (std::ptrdiff_t j = 0; j < size; ++j) {
        result.finite = result.finite && is_finite(values[j]);
        result.low = values[j] < result.low ? values[j] : result.low;
    }
    return result;
}

template <class Real>
inline void count_all_direct(const Real* values, std::ptrdiff_t size, std::size_t first, LevelCounts<Real>& counts) {
    for (std::size_t k = first; k < counts.levels.size(); ++k) {
        const Real level = counts.levels[k];
        std::int32_t not_above = 0, equal = 0;
        for (std::ptrdiff_t j = 0; j < size; ++j) {
            not_above += values[j] <= level;
            equal += values[j] == level;
        }
        counts.not_above[k] += not_above;
        counts.equal[k] += equal;
    }
}

template <class Real>
inline void find_buckets(const Real* values, std::ptrdiff_t size, Buckets<Real>& buckets) {
    for (std::ptrdiff_t j = 0; j < size; ++j) {
        buckets.found[j] = static_cast<typename Buckets<Real>::Int>(bucket_of(values[j], buckets));
    }
}

#endif

// Where numbers cannot be looked up in a register.
struct NoTrees {
    static constexpr std::size_t limit = 0;
};

template <class Real>
inline void count_trees(const Real*, std::ptrdiff_t, std::size_t, LevelCounts<Real>&, NoTrees&) {}

template <class Real>
inline void fell(NoTrees&, LevelCounts<Real>&) {}

// Up to direct_limit levels nothing is faster than comparing with all of them.
#if defined(REID_TREE_BYTES)
#include "count_tree.hpp"

template <class Real>
using RowTrees = std::conditional_t<REID_TREE_BYTES == 64 || sizeof(Real) == 4, Trees<Real>, NoTrees>;
template <class Real>
constexpr std::size_t direct_limit = RowTrees<Real>::limit ? 3 : 12;
#else
template <class Real>
using RowTrees = NoTrees;
template <class Real>
constexpr std::size_t direct_limit = 12;
#endif

template <class Real>
inline void count_block(const Real* values, std::ptrdiff_t size, std::size_t first, LevelCounts<Real>& counts,
                        RowTrees<Real>& trees) {
    const std::size_t active = counts.levels.size() - first;
    if (active <= direct_limit<Real>) return count_all_direct(values, size, first, counts);
    if (active <= RowTrees<Real>::limit) return count_trees(values, size, active, counts, trees);
    if (!counts.buckets_ready) build_buckets(counts);
    if (!counts.buckets.usable) return count_by_search(values, size, counts);
    find_buckets(values, size, counts.buckets);
    count_by_buckets(values, size, counts);
}

template <class Real>
inline std::ptrdiff_t count_blocks(const Real* values, std::ptrdiff_t size, LevelCounts<Real>& counts) {
    RowTrees<Real> trees;
    for (std::ptrdiff_t start = 0; start < size; start += block_size) {
        const std::ptrdiff_t length = size - start < block_size ? size - start : block_size;
        const Summary<Real> summary = summarise(values + start, length);
        if (!summary.finite) return start + first_not_finite(values + start, length);
        const std::size_t first = levels_below(counts, summary.low);
        if (first < counts.levels.size()) count_block(values + start, length, first, counts, trees);
    }
    fell(trees, counts);
    return -1;
}

}  // namespace REID_ISA_NAMESPACE
}  // namespace reid
