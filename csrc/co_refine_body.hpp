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

    // Of the last vector only `size` numbers count; those behind are equal to the reference, so that they differ by 0.
    template <bool last>
    void take(Vector one, Vector other, std::ptrdiff_t size = 0) {
        const Vector logits[2] = {one, other};
        Vector below[2];
        Vector power[2];
        for (int k = 0; k < 2; ++k) {
            below[k] = reference[k] - logits[k];
            power[k] = exp_of(-below[k]);
            if constexpr (last) power[k] = first_lanes(power[k], size);
            sum[k].add(power[k]);
        }
        for (int k = 0; k < 2; ++k) {
            if constexpr (careful) {
                const Vector infinity = filled(std::numeric_limits<Wide>::infinity());
                const Vector highest = logits[1 - k] > ruled_out[k] ? logits[1 - k] : ruled_out[k];
                ruled_out[k] = below[k] == infinity ? highest : ruled_out[k];
                below[k] = below[k] == infinity ? Vector{} : below[k];
            }
            cross[k].add(power[1 - k] * below[k]);
        }
    }

    void take_chunk(const Wide* const* logits, std::ptrdiff_t size) {
        constexpr std::ptrdiff_t width = lanes<Wide>;
        for (std::ptrdiff_t start = 0; start < size; start += sum_block) {
            const std::ptrdiff_t end = std::min(size, start + sum_block);
            for (int k = 0; k < 2; ++k) prefetch_next(logits[k] + start);
            std::ptrdiff_t j = start;
            for (; j + width <= end; j += width) take<false>(load(logits[0] + j), load(logits[1] + j));
            if (j < end) {
                take<true>(load_tail(logits[0] + j, end - j, references[0]),
                           load_tail(logits[1] + j, end - j, references[1]), end - j);
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

template <class Wide>
void sum_chunk(const Wide* const* logits, std::ptrdiff_t size, CoRefinePart<Wide>& part) {
    for (int k = 0; k < 2; ++k) {
        part.largest[k] = largest_of(logits[k], size);
        part.reference[k] = part.largest[k] == -std::numeric_limits<Wide>::infinity() ? 0 : part.largest[k];
    }
    CoRefineSums<false, Wide> sums(part.reference);
    sums.take_chunk(logits, size);
    sums.give(part);
    if (std::isfinite(part.cross[0]) && std::isfinite(part.cross[1])) return;
    CoRefineSums<true, Wide> again(part.reference);
    again.take_chunk(logits, size);
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

template <class Wide>
void write_gradients(const Wide* const* logits, std::ptrdiff_t size, const CoRefineFactors<Wide>* factors,
                     Wide* const* out) {
    using Vector = VectorOf<Wide>;
    constexpr std::ptrdiff_t width = lanes<Wide>;
    const CoRefineGradient<Wide> first(factors[0]), second(factors[1]);
    const auto powers = [&](Vector one, Vector other, Vector& power, Vector& peer_power) {
        power = exp_of(one - filled(factors[0].largest));
        peer_power = exp_of(other - filled(factors[1].largest));
    };
    Vector power, peer_power;
    std::ptrdiff_t j = 0;
    for (; j + width <= size; j += width) {
        powers(load(logits[0] + j), load(logits[1] + j), power, peer_power);
        store(out[0] + j, first.of(power, peer_power));
        store(out[1] + j, second.of(peer_power, power));
    }
    if (j == size) return;
    powers(load_tail(logits[0] + j, size - j), load_tail(logits[1] + j, size - j), power, peer_power);
    store_tail(out[0] + j, first.of(power, peer_power), size - j);
    store_tail(out[1] + j, second.of(peer_power, power), size - j);
}

}  // namespace REID_ISA_NAMESPACE
}  // namespace reid
