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

template <class Wide>
void write_gradient(const Wide* logits, const Wide* peer, std::ptrdiff_t size, const CoRefineFactors<Wide>& factors,
                    Wide* out) {
    map_vectors(logits, peer, size, out, [&](VectorOf<Wide> one, VectorOf<Wide> other) {
        const auto theirs = exp_of(other - filled(factors.peer_largest)) * filled(factors.peer);
        return multiply_add(exp_of(one - filled(factors.largest)), filled(factors.own), -theirs);
    });
}

}  // namespace REID_ISA_NAMESPACE
}  // namespace reid
