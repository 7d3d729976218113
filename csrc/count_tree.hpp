// The tree of count.hpp: included by count_body.hpp inside its namespace, for the instruction sets that can look numbers
// up in a register.
//
// Up to 7 levels make a search tree of three steps, up to 15 one of four and up to 31 one of five, and vectors of numbers
// walk down at once. All steps but the last lead to one of 4, 8 or 16 nodes, at each of which two neighbouring levels meet:
// an even one, which the last step compares with, and the odd one behind it. A number that goes right there is above the
// even level, else it is at most that.
// A vector cannot be used as addresses, so there are no counters in memory: the counters of a lane lie side by side in
// it, and 1 at the place of the node is looked up and added.

// What differs between registers and types. Right: whether each lane goes right. Node: a number in each lane. Counter: the
// counters in each lane.
template <class Real>
struct Tree;

#if REID_TREE_BYTES == 32

template <>
struct Tree<float> {
    using Vector = Lanes<float, REID_TREE_BYTES>::Vector;
    using Node = Lanes<float, REID_TREE_BYTES>::Mask;
    typedef std::uint32_t Counter __attribute__((vector_size(REID_TREE_BYTES)));
    using Right = Node;
    // A true lane is -1, so nodes are counted down from 0; looking up takes the last three bits of them.
    static constexpr std::size_t place(std::size_t node) { return (8 - node) % 8; }
    static inline Right above(Vector value, Vector level) { return value > level; }
    static inline Right equal(Vector value, Vector level) { return value == level; }
    static inline Node two_steps(Right first, Right second) { return first + first + second; }
    static inline Node down(Node node, Right right) { return node + node + right; }
    static inline Counter add_right(Counter sum, Right right, Counter one) { return sum + ((Counter)right & one); }
    static inline Vector either(Right right, Vector no, Vector yes) { return right ? yes : no; }
    static inline Vector look_up(Vector entries, Node node) {
        return (Vector)_mm256_permutevar8x32_ps((__m256)entries, (__m256i)node);
    }
    static inline Counter look_up(Counter entries, Node node) {
        return (Counter)_mm256_permutevar8x32_epi32((__m256i)entries, (__m256i)node);
    }
    static inline bool any(Right right) { return _mm256_movemask_ps((__m256)right) != 0; }
    static inline bool any_lane(Node node) { return any(node); }
};

#elif REID_TREE_BYTES == 64

template <>
struct Tree<float> {
    using Vector = Lanes<float, REID_TREE_BYTES>::Vector;
    using Node = Lanes<float, REID_TREE_BYTES>::Mask;
    typedef std::uint32_t Counter __attribute__((vector_size(REID_TREE_BYTES)));
    using Right = __mmask16;
    static constexpr std::size_t place(std::size_t node) { return node; }
    static inline Right above(Vector value, Vector level) {
        return _mm512_cmp_ps_mask((__m512)value, (__m512)level, _CMP_GT_OQ);
    }
    static inline Right equal(Vector value, Vector level) {
        return _mm512_cmp_ps_mask((__m512)value, (__m512)level, _CMP_EQ_OQ);
    }
    static inline Node two_steps(Right first, Right second) {
        const __m512i half = _mm512_maskz_mov_epi32(first, _mm512_set1_epi32(2));
        return (Node)_mm512_mask_add_epi32(half, second, half, _mm512_set1_epi32(1));
    }
    static inline Node down(Node node, Right right) {
        const __m512i twice = _mm512_add_epi32((__m512i)node, (__m512i)node);
        return (Node)_mm512_mask_add_epi32(twice, right, twice, _mm512_set1_epi32(1));
    }
    static inline Counter add_right(Counter sum, Right right, Counter one) {
        return (Counter)_mm512_mask_add_epi32((__m512i)sum, right, (__m512i)sum, (__m512i)one);
    }
    static inline Vector either(Right right, Vector no, Vector yes) {
        return (Vector)_mm512_mask_blend_ps(right, (__m512)no, (__m512)yes);
    }
    static inline Vector look_up(Vector entries, Node node) {
        return (Vector)_mm512_permutexvar_ps((__m512i)node, (__m512)entries);
    }
    static inline Counter look_up(Counter entries, Node node) {
        return (Counter)_mm512_permutexvar_epi32((__m512i)node, (__m512i)entries);
    }
    static inline bool any_lane(Node node) { return _mm512_test_epi32_mask((__m512i)node, (__m512i)node) != 0; }
    static inline bool any(Right right) { return right != 0; }
};

template <>
struct Tree<double> {
    using Vector = Lanes<double, REID_TREE_BYTES>::Vector;
    using Node = Lanes<double, REID_TREE_BYTES>::Mask;
    typedef std::uint64_t Counter __attribute__((vector_size(REID_TREE_BYTES)));
    using Right = __mmask8;
    static constexpr std::size_t place(std::size_t node) { return node; }
    static inline Right above(Vector value, Vector level) {
        return _mm512_cmp_pd_mask((__m512d)value, (__m512d)level, _CMP_GT_OQ);
    }
    static inline Right equal(Vector value, Vector level) {
        return _mm512_cmp_pd_mask((__m512d)value, (__m512d)level, _CMP_EQ_OQ);
    }
    static inline Node two_steps(Right first, Right second) {
        const __m512i half = _mm512_maskz_mov_epi64(first, _mm512_set1_epi64(2));
        return (Node)_mm512_mask_add_epi64(half, second, half, _mm512_set1_epi64(1));
    }
    static inline Node down(Node node, Right right) {
        const __m512i twice = _mm512_add_epi64((__m512i)node, (__m512i)node);
        return (Node)_mm512_mask_add_epi64(twice, right, twice, _mm512_set1_epi64(1));
    }
    static inline Counter add_right(Counter sum, Right right, Counter one) {
        return (Counter)_mm512_mask_add_epi64((__m512i)sum, right, (__m512i)sum, (__m512i)one);
    }
    static inline Vector either(Right right, Vector no, Vector yes) {
        return (Vector)_mm512_mask_blend_pd(right, (__m512d)no, (__m512d)yes);
    }
    static inline Vector look_up(Vector entries, Node node) {
        return (Vector)_mm512_permutexvar_pd((__m512i)node, (__m512d)entries);
    }
    static inline Counter look_up(Counter entries, Node node) {
        return (Counter)_mm512_permutexvar_epi64((__m512i)node, (__m512i)entries);
    }
    static inline bool any_lane(Node node) { return _mm512_test_epi64_mask((__m512i)node, (__m512i)node) != 0; }
    static inline bool any(Right right) { return right != 0; }
};

#endif

// A tree of three, four or five steps, and so of up to 7, 15 or 31 levels.
template <int steps, class Real>
struct TreeEntries {
    using Vector = typename Tree<Real>::Vector;
    using Counter = typename Tree<Real>::Counter;
    static constexpr std::size_t nodes = std::size_t{1} << (steps - 1);
    static constexpr std::size_t most = 2 * nodes - 1;  // levels
    // A counter has as many bits as fit: four, which bytes relieve in time, or a byte. More than eight of four bits do not
    // fit into one word.
    static constexpr std::size_t bits = 8 * sizeof(Real) / nodes < 8 ? 4 : 8;
    static constexpr std::size_t per_word = nodes < 8 * sizeof(Real) / bits ? nodes : 8 * sizeof(Real) / bits;
    static constexpr std::size_t words = nodes / per_word;
    Vector first, second[2];    // in every lane
    Vector inner[2];            // of the third and fourth step if there is another one after it, to be looked up
    Vector even, odd;           // of the last step, to be looked up
    Counter one[words];         // 1 in the counter of each of the nodes, to be looked up
};

template <int steps, class Real>
inline TreeEntries<steps, Real> plant(const Real* levels, std::size_t size) {
    using Entries = TreeEntries<steps, Real>;
    using Vector = typename Entries::Vector;
    using Int = typename Lanes<Real>::Int;
    constexpr std::size_t width = REID_TREE_BYTES / sizeof(Real), nodes = Entries::nodes;
    // Infinity is above every number, so that nothing passes or equals the missing levels.
    Real sorted[2 * nodes], look_up[width] = {};
    for (std::size_t k = 0; k < 2 * nodes; ++k) {
        sorted[k] = k < size ? levels[k] : std::numeric_limits<Real>::infinity();
    }
    Entries entries;
    entries.first = filled<Vector>(sorted[nodes - 1]);
    entries.second[0] = filled<Vector>(sorted[nodes / 2 - 1]);
    entries.second[1] = filled<Vector>(sorted[nodes + nodes / 2 - 1]);
    for (std::size_t step = 2; step + 1 < steps; ++step) {
        const std::size_t apart = 2 * nodes >> step;
        for (std::size_t k = 0; k < std::size_t{1} << step; ++k) {
            look_up[Tree<Real>::place(k)] = sorted[apart * k + apart / 2 - 1];
        }
        entries.inner[step - 2] = load<Vector>(look_up);
    }
    for (std::size_t k = 0; k < nodes; ++k) look_up[Tree<Real>::place(k)] = sorted[2 * k];
    entries.even = load<Vector>(look_up);
    for (std::size_t k = 0; k < nodes; ++k) look_up[Tree<Real>::place(k)] = sorted[2 * k + 1];
    entries.odd = load<Vector>(look_up);
    for (std::size_t word = 0; word < Entries::words; ++word) {
        Int one[width] = {};
        for (std::size_t k = 0; k < Entries::per_word; ++k) {
            one[Tree<Real>::place(Entries::per_word * word + k)] = static_cast<Int>(Int(1) << (k * Entries::bits));
        }
        entries.one[word] = load<typename Entries::Counter>(one);
    }
    return entries;
}

// How many numbers came to each node, and how many of them went right there, of at most 255 vectors.
template <int steps, class Real>
struct TreeCounters {
    using Entries = TreeEntries<steps, Real>;
    using Counter = typename Entries::Counter;
    static constexpr bool narrow = Entries::bits == 4;
    Counter came[Entries::words] = {}, right[Entries::words] = {};
    Counter wide[narrow ? 4 * Entries::words : 1] = {};  // even and odd counters of narrow ones

    // To be called before a lane has met more than 15 numbers.
    inline void relieve() {
        if constexpr (narrow) {
            constexpr std::uint32_t low = 0x0f0f0f0f;
            for (std::size_t k = 0; k < Entries::words; ++k) {
                wide[4 * k] += came[k] & low;
                wide[4 * k + 1] += (came[k] >> 4) & low;
                wide[4 * k + 2] += right[k] & low;
                wide[4 * k + 3] += (right[k] >> 4) & low;
                came[k] = right[k] = Counter{};
            }
        }
    }

    // hits[k]: numbers above k of the levels and at most at level k; the last: above all.
    inline void collect(std::int64_t* hits) const {
        for (std::size_t word = 0; word < Entries::words; ++word) {
            std::int64_t all[8] = {}, above[8] = {};
            if constexpr (narrow) {
                for (std::size_t k = 0; k < 2; ++k) {
                    add_bytes<2>(wide[4 * word + k], all + k);
                    add_bytes<2>(wide[4 * word + 2 + k], above + k);
                }
            } else {
                add_bytes<1>(came[word], all);
                add_bytes<1>(right[word], above);
            }
            for (std::size_t k = 0; k < Entries::per_word; ++k) {
                *hits++ = all[k] - above[k];
                *hits++ = above[k];
            }
        }
    }

    // Adds byte j of every lane to sums[step * j].
    template <int step>
    static inline void add_bytes(Counter bytes, std::int64_t* sums) {
        typedef std::uint16_t Part __attribute__((vector_size(16)));
        constexpr int pairs = static_cast<int>(sizeof(Real)) / 2;
        Part parts[REID_TREE_BYTES / 16], low = {}, high = {};  // bytes 0, 2, ... and 1, 3, ... of the lanes
        std::memcpy(parts, &bytes, sizeof(parts));
        for (const Part& part : parts) {
            low += part & 0xff;
            high += part >> 8;
        }
        for (int j = 0; j < 8; ++j) {
            sums[step * 2 * (j % pairs)] += low[j];
            sums[step * (2 * (j % pairs) + 1)] += high[j];
        }
    }
};

// Sends N vectors of numbers down and counts them. Returns where one equals the level that it came to. The vectors go
// step by step together: each step waits for the one before, and a processor does not look far enough ahead to find the
// next vector by itself.
template <int N, int steps, class Real>
inline typename Tree<Real>::Right walk(const typename Tree<Real>::Vector* values,
                                       const TreeEntries<steps, Real>& entries, TreeCounters<steps, Real>& counters) {
    using T = Tree<Real>;
    typename T::Right right[N], second[N], equal = {};
    typename T::Vector level[N];
    typename T::Node node[N];
    for (int k = 0; k < N; ++k) right[k] = T::above(values[k], entries.first);
    for (int k = 0; k < N; ++k) level[k] = T::either(right[k], entries.second[0], entries.second[1]);
    for (int k = 0; k < N; ++k) second[k] = T::above(values[k], level[k]);
    for (int k = 0; k < N; ++k) node[k] = T::two_steps(right[k], second[k]);
    for (int step = 2; step + 1 < steps; ++step) {
        for (int k = 0; k < N; ++k) level[k] = T::look_up(entries.inner[step - 2], node[k]);
        for (int k = 0; k < N; ++k) right[k] = T::above(values[k], level[k]);
        for (int k = 0; k < N; ++k) node[k] = T::down(node[k], right[k]);
    }
    for (int k = 0; k < N; ++k) level[k] = T::look_up(entries.even, node[k]);
    for (int k = 0; k < N; ++k) right[k] = T::above(values[k], level[k]);
    for (int k = 0; k < N; ++k) {
        for (std::size_t word = 0; word < TreeEntries<steps, Real>::words; ++word) {
            const auto one = T::look_up(entries.one[word], node[k]);
            counters.came[word] += one;
            counters.right[word] = T::add_right(counters.right[word], right[k], one);
        }
        equal |= T::equal(values[k], T::either(right[k], level[k], T::look_up(entries.odd, node[k])));
    }
    return equal;
}

// Adds to counts.equal. Few vectors have anything to add.
template <class Real>
inline void count_equal(const typename Tree<Real>::Vector* values, int size, std::size_t first, std::size_t number,
                        LevelCounts<Real>& counts) {
    for (std::size_t k = first; k < first + number; ++k) {
        typename Tree<Real>::Node equal = {};
        const auto level = filled<typename Tree<Real>::Vector>(counts.levels[k]);
        for (int j = 0; j < size; ++j) equal += values[j] == level;
        if (Tree<Real>::any_lane(equal)) counts.equal[k] += number_true<typename Lanes<Real>::Int>(equal);
    }
}

// A tree that stands, and the levels it is for.
template <int steps, class Real>
struct Planted {
    std::size_t first = 0, number = 0;  // none: not planted
    TreeEntries<steps, Real> entries;
    TreeCounters<steps, Real> counters;
    std::ptrdiff_t vectors = 0;  // that were counted
};

// Brings what a tree counted to counts.not_above.
template <int steps, class Real>
inline void harvest(Planted<steps, Real>& tree, LevelCounts<Real>& counts) {
    std::int64_t hits[TreeEntries<steps, Real>::most + 1];
    tree.counters.collect(hits);
    std::int64_t sum = 0;
    for (std::size_t k = 0; k < tree.number; ++k) counts.not_above[tree.first + k] += sum += hits[k];
    tree.counters = TreeCounters<steps, Real>();
    tree.vectors = 0;
}

template <int steps, class Real>
inline void count_tree(const Real* values, std::ptrdiff_t size, Planted<steps, Real>& tree, LevelCounts<Real>& counts) {
    using T = Tree<Real>;
    using Vector = typename T::Vector;
    constexpr int group = REID_TREE_BYTES == 64 ? 4 : 1;  // vectors at a time; there are 32 registers, or 16
    constexpr std::ptrdiff_t width = REID_TREE_BYTES / static_cast<std::ptrdiff_t>(sizeof(Real));
    constexpr std::ptrdiff_t most = block_size / width + 1;
    static_assert(most <= 255, "a byte holds what a lane meets in a block");
    if (tree.vectors + most > 255) harvest(tree, counts);
    tree.vectors += most;
    TreeCounters<steps, Real> counters = tree.counters;
    int met = 0;
    std::ptrdiff_t j = 0;
    for (; j + group * width <= size; j += group * width) {
        Vector vectors[group];
        for (int k = 0; k < group; ++k) {
            vectors[k] = load<Vector>(values + j + k * width);
            prefetch(values + j + k * width + block_size);  // comes from memory while this block is counted
        }
        const auto equal = walk<group>(vectors, tree.entries, counters);
        met += group;
        if (met + group > 15) {
            counters.relieve();
            met = 0;
        }
        if (T::any(equal)) count_equal(vectors, group, tree.first, tree.number, counts);
    }
    counters.relieve();
    for (; j < size; j += width) {
        const auto vector = size - j >= width
                                ? load<Vector>(values + j)
                                : load_tail<Vector>(values + j, size - j, std::numeric_limits<Real>::infinity());
        const auto equal = walk<1>(&vector, tree.entries, counters);
        counters.relieve();
        if (T::any(equal)) count_equal(&vector, 1, tree.first, tree.number, counts);
    }
    tree.counters = counters;
}

// The trees of one row, each planted when it is first needed. Levels are taken from the far end, 31 or 15 at a time:
// levels that lie below a whole block are at the other end.
template <class Real>
struct Trees {
    static constexpr bool has_five_steps = REID_TREE_BYTES / sizeof(Real) == 16;
    static constexpr std::size_t most = has_five_steps ? 31 : 15;
    static constexpr std::size_t groups = has_five_steps ? 2 : 3;
    static constexpr std::size_t limit = most * groups;
    Planted<3, Real> small[groups];
    Planted<4, Real> medium[groups];
    Planted<has_five_steps ? 5 : 4, Real> large[groups];
};

template <int steps, class Real>
inline void plant_and_count(const Real* values, std::ptrdiff_t size, std::size_t end, Planted<steps, Real>& tree,
                            LevelCounts<Real>& counts) {
    if (tree.number == 0) {
        constexpr std::size_t most = TreeEntries<steps, Real>::most;
        tree.first = end < most ? 0 : end - most;
        tree.number = end - tree.first;
        tree.entries = plant<steps>(&counts.levels[tree.first], tree.number);
    }
    count_tree(values, size, tree, counts);
}

// Counts for at least the last `active` levels, at most as many as Trees hold.
template <class Real>
inline void count_trees(const Real* values, std::ptrdiff_t size, std::size_t active, LevelCounts<Real>& counts,
                        Trees<Real>& trees) {
    std::size_t end = counts.levels.size();
    for (std::size_t k = 0;; ++k) {
        if (active <= 7) return plant_and_count(values, size, end, trees.small[k], counts);
        if (active <= 15) return plant_and_count(values, size, end, trees.medium[k], counts);
        plant_and_count(values, size, end, trees.large[k], counts);
        if (active <= Trees<Real>::most) return;
        active -= Trees<Real>::most;
        end -= Trees<Real>::most;
    }
}

template <int steps, class Real>
inline void harvest_all(Planted<steps, Real>* trees, LevelCounts<Real>& counts) {
    for (std::size_t k = 0; k < Trees<Real>::groups; ++k) {
        if (trees[k].vectors) harvest(trees[k], counts);
    }
}

// To be called after the last values of a row.
template <class Real>
inline void fell(Trees<Real>& trees, LevelCounts<Real>& counts) {
    harvest_all(trees.small, counts);
    harvest_all(trees.medium, counts);
    harvest_all(trees.large, counts);
}
