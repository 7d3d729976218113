// The loops over classes of the losses of one network, for one instruction set. No include guard, that is the point.

namespace reid {
namespace REID_ISA_NAMESPACE {

template <Weighted by, class Wide>
void sum_chunk(const Wide* logits, const Wide* targets, std::ptrdiff_t size, Wide reference, RowSums& sums) {
    using Vector = VectorOf<Wide>;
    constexpr std::ptrdiff_t width = lanes<Wide>;
    Sum<Wide> sum, cross, weight;
    // Of the last vector `count` numbers count: those behind are equal to the reference, and their targets 0.
    const auto take = [&](Vector logit, Vector target, auto last, std::ptrdiff_t count) {
        const Vector below = filled(reference) - logit;
        Vector power = exp_of(-below);
        if constexpr (last) power = first_lanes(power, count);
        sum.add(power);
        if constexpr (by == Weighted::ones) cross.add(below);
        if constexpr (by == Weighted::targets) {
            cross.add(target == 0 ? Vector{} : target * below);
            weight.add(target);
        }
        if constexpr (by == Weighted::powers) cross.add(power == 0 ? Vector{} : power * below);
    };
    const auto target_at = [&](std::ptrdiff_t j, std::ptrdiff_t count) {
        if constexpr (by != Weighted::targets) return Vector{};
        return count == width ? load(targets + j) : load_tail(targets + j, count);
    };
    for (std::ptrdiff_t start = 0; start < size; start += sum_block) {
        const std::ptrdiff_t end = std::min(size, start + sum_block);
        prefetch_next(logits + start);
        if constexpr (by == Weighted::targets) prefetch_next(targets + start);
        std::ptrdiff_t j = start;
        for (; j + width <= end; j += width) take(load(logits + j), target_at(j, width), std::false_type{}, width);
        if (j < end) take(load_tail(logits + j, end - j, reference), target_at(j, end - j), std::true_type{}, end - j);
        sum.end_block();
        cross.end_block();
        weight.end_block();
    }
    sums = {sum.total(), cross.total(), weight.total()};
    if constexpr (by == Weighted::ones) sums.weight = static_cast<double>(size);
    if constexpr (by == Weighted::powers) sums.weight = sums.sum;
}

template <class Wide>
Wide largest_in(const Wide* logits, std::ptrdiff_t size) {
    return largest_of(logits, size);
}

// out = factor * e^(logits - largest) - offset
template <class Wide>
void write_probabilities(const Wide* logits, std::ptrdiff_t size, Wide largest, Wide factor, Wide offset, Wide* out) {
    map_vectors(logits, logits, size, out, [&](VectorOf<Wide> logit, VectorOf<Wide>) {
        return multiply_add(exp_of(logit - filled(largest)), filled(factor), filled(-offset));
    });
}

// out = factor * e^(logits - largest) - grad * targets
template <class Wide>
void write_from_targets(const Wide* logits, const Wide* targets, std::ptrdiff_t size, Wide largest, Wide factor, Wide grad,
                        Wide* out) {
    map_vectors(logits, targets, size, out, [&](VectorOf<Wide> logit, VectorOf<Wide> target) {
        return multiply_add(exp_of(logit - filled(largest)), filled(factor), -filled(grad) * target);
    });
}

// out = factor * e^(logits - largest) * (logits - largest - offset), 0 where the exponential is
template <class Wide>
void write_penalty(const Wide* logits, std::ptrdiff_t size, Wide largest, Wide factor, Wide offset, Wide* out) {
    map_vectors(logits, logits, size, out, [&](VectorOf<Wide> logit, VectorOf<Wide>) {
        const auto relative = logit - filled(largest);
        const auto power = exp_of(relative);
        return power == 0 ? VectorOf<Wide>{} : filled(factor) * power * (relative - filled(offset));
    });
}

}  // namespace REID_ISA_NAMESPACE
}  // namespace reid
