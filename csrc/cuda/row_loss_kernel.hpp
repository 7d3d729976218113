// What the losses of one network have in common on a GPU: a row's largest logit, its sum of exponentials, and two more
// sums that a loss asks for. Each loss is a struct of its own; cross_entropy_kernel.hpp is the one to read first.
//
// A block reads its part of a row twice, the second time from the cache. Where a row has one part, the same block ends
// it, else another kernel brings the parts together.
#pragma once

#include "row_blocks.hpp"

namespace reid {

// What a part of a row adds up to, and how it lies in memory. `terms` is a sum over classes of g * (z - largest), and
// `mass` of g; whatever g is, this can be moved to another largest logit.
struct RowPart {
    double largest;
    double top;
    double sum;
    double mass;
    double terms;
};

// What a loss is made of, relative to the row's largest logit.
struct RowSums {
    double largest;
    int top;
    double sum;
    double log_sum;
    double mass;
    double terms;
};

// Brings a row's parts together; one thread does it.
__device__ inline RowSums sums_of_parts(const RowPart* parts, int count, bool mass_is_exponential) {
    Largest<double> largest;
    for (int part = 0; part < count; ++part) largest.see(parts[part].largest, static_cast<int>(parts[part].top));
    RowSums all{largest.value, largest.place == INT_MAX ? 0 : largest.place, 0, 0, 0, 0};
    for (int part = 0; part < count; ++part) {
        const RowPart& one = parts[part];
        const double factor = exp(one.largest - all.largest);
        const double rise = one.largest == minus_infinity<double>() ? 0 : one.largest - all.largest;
        const double share = mass_is_exponential ? factor : 1;
        all.sum += factor * one.sum;
        all.mass += share * one.mass;
        all.terms += share * (one.terms + one.mass * rise);
    }
    all.log_sum = log(all.sum);
    return all;
}

// A loss has: `problem`; Logits, which loads its rows; add(row, place, count, below, powers, mass, terms), which adds
// eight classes to its two sums, with mass_is_exponential where g has a factor of e^z; and finish(row, sums).
template <class Loss>
__global__ void __launch_bounds__(row_threads) row_loss_kernel(const Loss loss, const Parts parts, RowPart* all_parts) {
    using Value = typename Loss::Logits::Value;
    using Number = typename Loss::Logits::Number;
    REID_SHARED(Value, values, row_warps);
    REID_SHARED(int, places, row_warps);
    REID_SHARED(double, sums_of_warps, 3 * row_warps);
    REID_SHARED(RowPart, own_part, 1);
    const std::int64_t row = blockIdx.x;
    const Part part(parts, loss.problem.classes);
    Largest<Value> largest;
    each_eight(part.size, [&](int place, int count) {
        Value z[eight];
        Loss::Logits::load(loss.problem, row, part.first + place, count, z);
        for (int i = 0; i < eight; ++i) largest.see(z[i], part.first + place + i);
    });
    join_block(largest, values, places);
    const Value reference = largest.reference();
    double sums[3] = {0, 0, 0};
    each_eight(part.size, [&](int place, int count) {
        Value z[eight];
        Difference<Number> below[eight];
        Number powers[eight];
        Loss::Logits::load(loss.problem, row, part.first + place, count, z);
        for (int i = 0; i < eight; ++i) {
            below[i] = Loss::Logits::below(z[i], reference);
            powers[i] = exponential(below[i]);
        }
        sums[0] += sum_of(powers);
        loss.add(row, part.first + place, count, below, powers, sums[1], sums[2]);
    });
    add_block(sums, sums_of_warps);
    if (threadIdx.x != 0) return;
    RowPart* const to = parts.count == 1 ? own_part : all_parts + row * parts.count + blockIdx.y;
    *to = {static_cast<double>(largest.value), static_cast<double>(largest.place), sums[0], sums[1], sums[2]};
    if (parts.count == 1) loss.finish(row, sums_of_parts(own_part, 1, Loss::mass_is_exponential));
}

template <class Loss>
__global__ void __launch_bounds__(row_threads) finish_losses_kernel(const Loss loss, int count, const RowPart* parts) {
    const std::int64_t row = std::int64_t{blockIdx.x} * row_threads + threadIdx.x;
    if (row < loss.problem.rows) loss.finish(row, sums_of_parts(parts + row * count, count, Loss::mass_is_exponential));
}

// A gradient has: `problem`; Logits; Row, what does not change within a row, made from (problem, row); and
// of(row, place, count, constants, below, p), which turns eight probabilities into gradients.
template <class Gradient>
__global__ void __launch_bounds__(row_threads) row_gradient_kernel(const Gradient gradient, const Parts parts) {
    using Value = typename Gradient::Logits::Value;
    using Number = typename Gradient::Logits::Number;
    const std::int64_t row = blockIdx.x;
    const Part part(parts, gradient.problem.classes);
    const Softmax<Number, Value> softmax(gradient.problem.statistics + 3 * row);
    const typename Gradient::Row constants(gradient.problem, row);
    auto* const to = gradient.problem.gradient + row * gradient.problem.classes + part.first;
    each_eight(part.size, [&](int place, int count) {
        Value z[eight];
        Difference<Number> below[eight];
        Number p[eight];
        Gradient::Logits::load(gradient.problem, row, part.first + place, count, z);
        for (int i = 0; i < eight; ++i) {
            below[i] = Gradient::Logits::below(z[i], softmax.largest);
            p[i] = exponential(below[i]) * softmax.scale;
        }
        gradient.of(row, part.first + place, count, constants, below, p);
        store(p, count, to + place);
    });
}

// `all_parts` has room for rows * Parts(classes).count where that count is above 1.
template <class Loss>
void launch_row_loss(const Loss& loss, RowPart* all_parts, cudaStream_t stream) {
    if (loss.problem.rows == 0) return;
    const Parts parts(loss.problem.classes);
    const dim3 grid(static_cast<unsigned>(loss.problem.rows), static_cast<unsigned>(parts.count));
    REID_LAUNCH((row_loss_kernel<Loss>), grid, dim3(row_threads), stream, loss, parts, all_parts);
    if (parts.count == 1) return;
    const dim3 blocks(static_cast<unsigned>((loss.problem.rows + row_threads - 1) / row_threads));
    REID_LAUNCH((finish_losses_kernel<Loss>), blocks, dim3(row_threads), stream, loss, parts.count, all_parts);
}

template <class Gradient>
void launch_row_gradient(const Gradient& gradient, cudaStream_t stream) {
    if (gradient.problem.rows == 0) return;
    const Parts parts(gradient.problem.classes);
    const dim3 grid(static_cast<unsigned>(gradient.problem.rows), static_cast<unsigned>(parts.count));
    REID_LAUNCH((row_gradient_kernel<Gradient>), grid, dim3(row_threads), stream, gradient, parts);
}

}  // namespace reid
