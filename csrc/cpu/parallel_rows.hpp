// Shares the rows of a loss, or chunks of them, over torch's threads.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "instruction_set.hpp"
#include "loss_rows.hpp"

namespace reid {

// 32,768 logits a thread at least: fewer are done before another thread has begun.
inline std::int64_t grain_of(std::int64_t classes) { return std::max<std::int64_t>(1, 32768 / classes); }

// `part(row, chunk)` sums up a chunk, `add(all, next)` adds the next chunk to the first ones, `finish(row, all)` ends a row.
// Where there are fewer rows than would keep all threads busy, threads share the chunks; what is added to what stays the
// same.
template <class Part, class Add, class Finish>
void reduce_rows(std::int64_t rows, std::int64_t classes, const Part& part, const Add& add, const Finish& finish) {
    const std::int64_t chunks = num_chunks(classes);
    if (chunks == 1 || rows >= 4 * std::int64_t{torch::stable::get_num_threads()}) {
        torch::stable::parallel_for(0, rows, grain_of(classes), [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t row = begin; row < end; ++row) {
                auto all = part(row, 0);
                for (std::int64_t chunk = 1; chunk < chunks; ++chunk) add(all, part(row, chunk));
                finish(row, all);
            }
        });
        return;
    }
    std::vector<decltype(part(0, 0))> parts(static_cast<std::size_t>(rows * chunks));
    torch::stable::parallel_for(0, rows * chunks, grain_of(loss_chunk), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) parts[static_cast<std::size_t>(i)] = part(i / chunks, i % chunks);
    });
    for (std::int64_t row = 0; row < rows; ++row) {
        auto* all = parts.data() + row * chunks;
        for (std::int64_t chunk = 1; chunk < chunks; ++chunk) add(all[0], all[chunk]);
        finish(row, all[0]);
    }
}

// `write(row, chunk)` for all chunks of all rows.
template <class Write>
void write_chunks(std::int64_t rows, std::int64_t classes, const Write& write) {
    const std::int64_t chunks = num_chunks(classes);
    const std::int64_t grain = grain_of(std::min(classes, loss_chunk));
    torch::stable::parallel_for(0, rows * chunks, grain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) write(i / chunks, i % chunks);
    });
}

// `visit(begin, end)` for all rows, each whole.
template <class Visit>
void visit_rows(std::int64_t rows, std::int64_t classes, const Visit& visit) {
    torch::stable::parallel_for(0, rows, grain_of(classes), visit);
}

}  // namespace reid
