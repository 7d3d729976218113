// The loops over classes of co_refine.hpp for one instruction set. No include guard, that is the point.

namespace reid {
namespace REID_ISA_NAMESPACE {

// Adds a block of classes. `careful` is for logits of -inf: such a class adds nothing to `cross`, and the other network's
// largest logit over such classes is kept instead. Elsewhere no product is infinity times 0.
template <bool careful, class Wide>
struct CoRefineSums {
    using Vector = VectorOf<Wide>;
    const Wide* references;
    Vector reference[2];
    Vector ruled_out[2];
    Sum<Wide> sum[2];
    Sum<Wide> cross[2];

    explicit CoRefineSums(const Wide* of_chunk) : references(of_chunk) {
        for (int k = 0; k < 2; ++k) {
            reference[k] = filled(references[k]);
            ruled_out[k] = filled(-std::numeric_limits<Wide>::infinity());
        }
    }

    // Adds `count` vectors of each network, network 0's first. Of the last vector of a row only `size` numbers count; those
    // behind are equal to the reference, so that they differ by 0.
    template <bool last, std::size_t count>
    void take(Vector (&logits)[2 * count], Vector (&power)[2 * count], std::ptrdiff_t size = 0) {
        Vector below[2 * count];
        for (std::size_t i = 0; i < 2 * count; ++i) {
            below[i] = reference[i / count] - logits[i];
            power[i] = -below[i];
        }
        exp_all(power);
        for (std::size_t i = 0; i < 2 * count; ++i) {
            if constexpr (last) power[i] = first_lanes(power[i], size);
            sum[i / count].add(power[i]);
        }
        for (std::size_t i = 0; i < 2 * count; ++i) {
            const std::size_t k = i / count, other = (i + count) % (2 * count);
            if constexpr (careful) {
                const Vector infinity = filled(std::numeric_limits<Wide>::infinity());
                const Vector highest = logits[other] > ruled_out[k] ? logits[other] : ruled_out[k];
                ruled_out[k] = below[i] == infinity ? highest : ruled_out[k];
                below[i] = below[i] == infinity ? Vector{} : below[i];
            }
            cross[k].add_product(power[other], below[i]);
        }
    }

    // `kept`: where each class's powers go, for the gradient.
    template <bool keep>
    void take_chunk(const Wide* const* logits, std::ptrdiff_t size, Wide* const* kept) {
        constexpr std::ptrdiff_t width = lanes<Wide>;
        constexpr std::size_t abreast = sizeof(Vector) > sizeof(Wide) ? 2 : 1;
        const Wide* const from[2] = {logits[0], logits[1]};
        Wide* const to[2] = {keep ? kept[0] : nullptr, keep ? kept[1] : nullptr};
        for (std::ptrdiff_t start = 0; start < size; start += sum_block) {
            const std::ptrdiff_t end = std::min(size, start + sum_block);
            for (int k = 0; k < 2; ++k) prefetch_next(from[k] + start);
            std::ptrdiff_t j = start;
            constexpr std::ptrdiff_t step = abreast * width;
            for (; j + step <= end; j += step) {
                Vector vectors[2 * abreast], power[2 * abreast];
                for (std::size_t i = 0; i < 2 * abreast; ++i) vectors[i] = load(from[i / abreast] + j + i % abreast * width);
                take<false, abreast>(vectors, power);
                for (std::size_t i = 0; keep && i < 2 * abreast; ++i) store(to[i / abreast] + j + i % abreast * width, power[i]);
            }
            for (; j < end; j += width) {
                const std::ptrdiff_t left = std::min(width, end - j);
                Vector vectors[2], power[2];
                for (int k = 0; k < 2; ++k) vectors[k] = load_tail(from[k] + j, left, references[k]);
                take<true, 1>(vectors, power, left);
                for (int k = 0; keep && k < 2; ++k) store_tail(to[k] + j, power[k], left);
            }
            for (int k = 0; k < 2; ++k) {
                sum[k].end_block();
                cross[k].end_block();
            }
        }
    }

    void give(CoRefinePart<Wide>& part) const {
        for (int k = 0; k < 2; ++k) {
            part.sum[k] = sum[k].total();
            part.cross[k] = cross[k].total();
            part.ruled_out[k] = largest_lane<Wide>(ruled_out[k]);
        }
    }
};

// `kept`: null, or where the powers of both networks go.
template <class Wide>
void sum_chunk(const Wide* const* logits, std::ptrdiff_t size, Wide* const* kept, CoRefinePart<Wide>& part) {
    for (int k = 0; k < 2; ++k) {
        part.largest[k] = largest_of(logits[k], size);
        part.reference[k] = part.largest[k] == -std::numeric_limits<Wide>::infinity() ? 0 : part.largest[k];
    }
    CoRefineSums<false, Wide> sums(part.reference);
    if (kept == nullptr) {
        sums.template take_chunk<false>(logits, size, kept);
    } else {
        sums.template take_chunk<true>(logits, size, kept);
    }
    sums.give(part);
    if (std::isfinite(part.cross[0]) && std::isfinite(part.cross[1])) return;
    CoRefineSums<true, Wide> again(part.reference);  // the powers are the same
    again.template take_chunk<false>(logits, size, nullptr);
    again.give(part);
}

// All of a gradient but its hard term.
template <class Wide>
struct CoRefineGradient {
    VectorOf<Wide> own;
    VectorOf<Wide> peer;

    explicit CoRefineGradient(const CoRefineFactors<Wide>& factors) : own(filled(factors.own)), peer(filled(factors.peer)) {}
    VectorOf<Wide> of(VectorOf<Wide> power, VectorOf<Wide> peer_power) const {
        return multiply_add(power, own, -(peer_power * peer));
    }
};

template <class Wide>
void write_gradient(const Wide* logits, const Wide* peer, std::ptrdiff_t size, const CoRefineFactors<Wide>& factors,
                    Wide* out) {
    const CoRefineGradient<Wide> gradient(factors);
    map_vectors(logits, peer, size, out, [&](VectorOf<Wide> one, VectorOf<Wide> other) {
        return gradient.of(exp_of(one - filled(factors.largest)), exp_of(other - filled(factors.peer_largest)));
    });
}

// Both networks' gradients from their powers, all but the hard term. Where they are streamed, up to the first vector whose
// place is a multiple of its size they are not.
template <bool streamed, class Wide>
void write_gradients(const Wide* const* powers, std::ptrdiff_t size, const CoRefineFactors<Wide>* factors,
                     Wide* const* out) {
    using Vector = VectorOf<Wide>;
    constexpr std::ptrdiff_t width = lanes<Wide>;
    const CoRefineGradient<Wide> first(factors[0]), second(factors[1]);
    std::ptrdiff_t j = 0;
    const auto write_some = [&](std::ptrdiff_t count) {
        const Vector power = load_tail(powers[0] + j, count), peer_power = load_tail(powers[1] + j, count);
        store_tail(out[0] + j, first.of(power, peer_power), count);
        store_tail(out[1] + j, second.of(peer_power, power), count);
        j += count;
    };
    if constexpr (streamed) {
        const auto past = reinterpret_cast<std::uintptr_t>(out[0]) % sizeof(Vector);
        if (past > 0) write_some(std::min<std::ptrdiff_t>(size, (sizeof(Vector) - past) / sizeof(Wide)));
    }
    for (; j + width <= size; j += width) {
        const Vector power = load(powers[0] + j), peer_power = load(powers[1] + j);
        if constexpr (streamed) {
            stream(out[0] + j, first.of(power, peer_power));
            stream(out[1] + j, second.of(peer_power, power));
        } else {
            store(out[0] + j, first.of(power, peer_power));
            store(out[1] + j, second.of(peer_power, power));
        }
    }
    if (j < size) write_some(size - j);
}

template <class Wide>
void write_gradients(const Wide* const* powers, std::ptrdiff_t size, const CoRefineFactors<Wide>* factors,
                     Wide* const* out, bool streamed) {
    if (streamed) {
        write_gradients<true>(powers, size, factors, out);
    } else {
        write_gradients<false>(powers, size, factors, out);
    }
}

}  // namespace REID_ISA_NAMESPACE
}  // namespace reid
