// Co-refining on a GPU; the problem is in loss_problems.hpp.
//
// A block reads its part of both networks' rows twice, the second time from the cache: the largest logits first, then
// all sums relative to them. Where a row has one part, the same block ends it, else another kernel brings the parts
// together. The soft term of network k, whose peer is j, is log_sum_k - cross_j / sum_j, where
//     cross_j = sum over classes of e^(z_j - largest_j) * (z_k - largest_k);
// nothing in it is positive, so nothing cancels.
#pragma once

#include "row_blocks.hpp"

namespace reid {

// What a part of a row adds up to for one network, and how it lies in memory: two of these a part.
struct PairPart {
    double largest;
    double top;
    double sum;
    double cross;
    double ruled_out;  // this network's largest logit over classes where the other one has -inf
};

// Losses and statistics of a row from its parts; one thread does it.
template <class Real>
__device__ void finish_row(const CoRefine<Real>& problem, std::int64_t row, const PairPart* parts, int count) {
    Largest<double> largest[2];
    double sum[2] = {0, 0};
    double cross[2] = {0, 0};
    double ruled_out[2] = {minus_infinity<double>(), minus_infinity<double>()};
    for (int part = 0; part < count; ++part)
        for (int k = 0; k < 2; ++k) {
            const PairPart& one = parts[2 * part + k];
            largest[k].see(one.largest, static_cast<int>(one.top));
        }
    for (int part = 0; part < count; ++part) {
        for (int k = 0; k < 2; ++k) {
            const PairPart& own = parts[2 * part + k];
            const PairPart& other = parts[2 * part + 1 - k];
            const double factor = exp(own.largest - largest[k].value);
            // Where the other network has -inf alone, `ruled_out` speaks.
            const double rise = other.largest == minus_infinity<double>() ? 0 : other.largest - largest[1 - k].value;
            sum[k] += factor * own.sum;
            cross[k] += factor * (own.cross + own.sum * rise);
            if (own.ruled_out > ruled_out[k]) ruled_out[k] = own.ruled_out;
        }
    }
    int top[2];
    double log_sum[2];
    for (int k = 0; k < 2; ++k) {
        top[k] = largest[k].place == INT_MAX ? 0 : largest[k].place;
        log_sum[k] = log(sum[k]);
        double* statistics = problem.statistics + (k * problem.rows + row) * 3;
        statistics[0] = largest[k].value;
        statistics[1] = log_sum[k];
        statistics[2] = top[k];
    }
    const double weight = top[0] == top[1] ? problem.agree_weight : problem.disagree_weight;
    for (int k = 0; k < 2; ++k) {
        if (problem.losses[k] == nullptr) continue;
        const int j = 1 - k;
        const double taught = number_of(row_at(problem.logits[k], row)[top[j]]);
        const double hard = log_sum[k] - (taught - largest[k].value);
        double soft = log_sum[k] - cross[j] / sum[j];
        // Network k has -inf there: no matter where the other one's probability is 0, in the type it is computed in.
        if (static_cast<LossOf<Real>>(exp(ruled_out[j] - largest[j].value) / sum[j]) > 0) soft = INFINITY;
        problem.losses[k][row] = static_cast<LossOf<Real>>(weight * hard + problem.soft_weight * soft);
    }
}

// Adds eight classes of network k to its sums; the other network is j.
template <class Number>
__device__ __forceinline__ void add_eight(const Number (&z_k)[eight], const Difference<Number> (&below_k)[eight],
                                          const Number (&z_j)[eight], const Difference<Number> (&below_j)[eight],
                                          double& sum, double& cross, Number& ruled_out) {
    Number powers[eight];
    Number terms[eight];
    for (int i = 0; i < eight; ++i) {
        powers[i] = exponential(below_k[i]);
        const bool is_ruled_out = z_j[i] == minus_infinity<Number>();
        if (is_ruled_out && z_k[i] > ruled_out) ruled_out = z_k[i];
        terms[i] = is_ruled_out || powers[i] == 0 ? Number(0) : powers[i] * below_j[i].high;
    }
    sum += sum_of(powers);
    cross += sum_of(terms);
}

template <class Real>
__global__ void __launch_bounds__(row_threads)
    co_refine_kernel(const CoRefine<Real> problem, const Parts parts, PairPart* all_parts) {
    using Number = LossOf<Real>;
    REID_SHARED(Number, values, 2 * row_warps);
    REID_SHARED(int, places, 2 * row_warps);
    REID_SHARED(double, sums_of_warps, 4 * row_warps);
    REID_SHARED(PairPart, own_parts, 2);
    const std::int64_t row = blockIdx.x;
    const Part part(parts, problem.classes);
    const Real* logits[2];
    Largest<Number> largest[2];
    for (int k = 0; k < 2; ++k) {
        logits[k] = row_at(problem.logits[k], row) + part.first;
        each_eight(part.size, [&](int place, int count) {
            Number z[eight];
            load(logits[k] + place, count, minus_infinity<Number>(), z);
            for (int i = 0; i < eight; ++i) largest[k].see(z[i], part.first + place + i);
        });
        join_block(largest[k], values + k * row_warps, places + k * row_warps);
    }
    const Number references[2] = {largest[0].reference(), largest[1].reference()};
    double sums[4] = {0, 0, 0, 0};
    Number ruled_out[2] = {minus_infinity<Number>(), minus_infinity<Number>()};
    each_eight(part.size, [&](int place, int count) {
        Number z[2][eight];
        Difference<Number> below[2][eight];
        for (int k = 0; k < 2; ++k) {
            load(logits[k] + place, count, minus_infinity<Number>(), z[k]);
            for (int i = 0; i < eight; ++i) below[k][i] = difference(z[k][i], references[k]);
        }
        add_eight(z[0], below[0], z[1], below[1], sums[0], sums[2], ruled_out[0]);
        add_eight(z[1], below[1], z[0], below[0], sums[1], sums[3], ruled_out[1]);
    });
    // NaN is not kept here: its row has NaN everywhere.
    Largest<Number> highest[2];
    for (int k = 0; k < 2; ++k) {
        highest[k].value = ruled_out[k];
        __syncthreads();
        join_block(highest[k], values + k * row_warps, places + k * row_warps);
    }
    add_block(sums, sums_of_warps);
    if (threadIdx.x != 0) return;
    PairPart* const to = parts.count == 1 ? own_parts : all_parts + 2 * (row * parts.count + blockIdx.y);
    for (int k = 0; k < 2; ++k)
        to[k] = {largest[k].value, static_cast<double>(largest[k].place), sums[k], sums[2 + k], highest[k].value};
    if (parts.count == 1) finish_row(problem, row, own_parts, 1);
}

template <class Real>
__global__ void __launch_bounds__(row_threads)
    finish_rows_kernel(const CoRefine<Real> problem, int count, const PairPart* parts) {
    const std::int64_t row = std::int64_t{blockIdx.x} * row_threads + threadIdx.x;
    if (row < problem.rows) finish_row(problem, row, parts + 2 * row * count, count);
}

template <class Real>
__global__ void __launch_bounds__(row_threads)
    co_refine_backward_kernel(const CoRefineBackward<Real> problem, const Parts parts) {
    using Number = LossOf<Real>;
    const std::int64_t row = blockIdx.x;
    const Part part(parts, problem.classes);
    const Softmax<Number> own(problem.statistics + 3 * row);
    const Softmax<Number> peer(problem.peer_statistics + 3 * row);
    const auto top = static_cast<int>(problem.peer_statistics[3 * row + 2]);
    const bool agree = problem.statistics[3 * row + 2] == problem.peer_statistics[3 * row + 2];
    const auto hard = static_cast<Number>(agree ? problem.agree_weight : problem.disagree_weight);
    const auto soft = static_cast<Number>(problem.soft_weight);
    const Number grad = problem.grad.first[row * problem.grad.stride];
    const Real* logits = row_at(problem.logits, row) + part.first;
    const Real* peer_logits = row_at(problem.peer, row) + part.first;
    Real* gradient = problem.gradient + row * problem.classes + part.first;
    each_eight(part.size, [&](int place, int count) {
        Number z[eight];
        Number peer_z[eight];
        load(logits + place, count, minus_infinity<Number>(), z);
        load(peer_logits + place, count, minus_infinity<Number>(), peer_z);
        for (int i = 0; i < eight; ++i) {
            const Number p = exponential(difference(z[i], own.largest)) * own.scale;
            const Number q = exponential(difference(peer_z[i], peer.largest)) * peer.scale;
            const Number taught = part.first + place + i == top;
            // Differences first: where both networks are sure, large numbers would cancel.
            z[i] = grad * (hard * (p - taught) + soft * (p - q));
        }
        store(z, count, gradient + place);
    });
}

// `parts` has room for 2 * rows * Parts(classes).count where that count is above 1.
template <class Real>
void launch_co_refine(const CoRefine<Real>& problem, PairPart* all_parts, cudaStream_t stream) {
    if (problem.rows == 0) return;
    const Parts parts(problem.classes);
    const dim3 grid(static_cast<unsigned>(problem.rows), static_cast<unsigned>(parts.count));
    REID_LAUNCH((co_refine_kernel<Real>), grid, dim3(row_threads), stream, problem, parts, all_parts);
    if (parts.count == 1) return;
    const dim3 blocks(static_cast<unsigned>((problem.rows + row_threads - 1) / row_threads));
    REID_LAUNCH((finish_rows_kernel<Real>), blocks, dim3(row_threads), stream, problem, parts.count, all_parts);
}

template <class Real>
void launch_co_refine_backward(const CoRefineBackward<Real>& problem, cudaStream_t stream) {
    if (problem.rows == 0) return;
    const Parts parts(problem.classes);
    const dim3 grid(static_cast<unsigned>(problem.rows), static_cast<unsigned>(parts.count));
    REID_LAUNCH((co_refine_backward_kernel<Real>), grid, dim3(row_threads), stream, problem, parts);
}

}  // namespace reid
