// Feeds csrc/rank.hpp from a file and prints what it answers; the tests compile this with sanitizers.
// Every array is a heap block of exactly its size, so that one step outside is a report.
// Usage: rank_driver FILE [THREADS]. One table after another goes through every instruction set of this machine, the
// answers must be the same, and are printed once. With THREADS each table is ranked by so many threads at once, which
// share the gallery and the distances.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "rank.hpp"

namespace {

template <class T>
struct Block {
    explicit Block(std::ptrdiff_t size) : data(new T[static_cast<std::size_t>(size)]), size(size) {}
    bool read(std::FILE* file) {
        return std::fread(data.get(), sizeof(T), static_cast<std::size_t>(size), file) ==
               static_cast<std::size_t>(size);
    }
    std::unique_ptr<T[]> data;
    std::ptrdiff_t size;
};

struct Answer {
    explicit Answer(std::ptrdiff_t rows) : counts(4 * rows), scores(3 * rows) {}
    reid::BadPosition bad;
    Block<std::int64_t> counts;
    Block<double> scores;

    bool same(const Answer& other) const {
        if (bad.row != other.bad.row || bad.column != other.bad.column) return false;
        if (bad.row >= 0) return true;
        return std::memcmp(counts.data.get(), other.counts.data.get(), sizeof(std::int64_t) * counts.size) == 0 &&
               std::memcmp(scores.data.get(), other.scores.data.get(), sizeof(double) * scores.size) == 0;
    }
};

template <class Real>
int table(std::FILE* file, std::int64_t rows, std::int64_t columns, bool drop, int threads) {
    Block<std::int64_t> q_pids(rows), g_pids(columns), q_camids(rows), g_camids(columns);
    Block<Real> distances(rows * columns);
    if (!(q_pids.read(file) && g_pids.read(file) && q_camids.read(file) && g_camids.read(file) && distances.read(file)))
        return 2;
    const reid::Gallery gallery(g_pids.data.get(), g_camids.data.get(), columns);
    std::vector<std::unique_ptr<Answer>> answers;
    std::vector<std::thread> running;
    for (std::int32_t number = 0; number < reid::num_isas; ++number) {
        const auto isa = static_cast<reid::Isa>(number);
        if (!reid::isa_available(isa)) continue;
        for (int k = 0; k < (threads ? threads : 1); ++k) {
            answers.push_back(std::make_unique<Answer>(rows));
            const auto rank = [&, isa, answer = answers.back().get()] {
                answer->bad = reid::rank_rows(distances.data.get(), rows, gallery, q_pids.data.get(),
                                              q_camids.data.get(), drop, isa, answer->counts.data.get(),
                                              answer->scores.data.get());
            };
            if (threads) {
                running.emplace_back(rank);
            } else {
                rank();
            }
        }
    }
    for (std::thread& thread : running) thread.join();
    for (const auto& answer : answers) {
        if (!answer->same(*answers.front())) return 3;
    }
    const Answer& first = *answers.front();
    std::printf("%td %td", first.bad.row, first.bad.column);
    if (first.bad.row < 0) {
        for (std::ptrdiff_t i = 0; i < 4 * rows; ++i) {
            std::printf(" %lld", static_cast<long long>(first.counts.data[static_cast<std::size_t>(i)]));
        }
        for (std::ptrdiff_t i = 0; i < 3 * rows; ++i) {
            std::printf(" %.17g", first.scores.data[static_cast<std::size_t>(i)]);
        }
    }
    std::printf("\n");
    return 0;
}

}  // namespace

int main(int count, char** arguments) {
    std::FILE* file = count > 1 ? std::fopen(arguments[1], "rb") : nullptr;
    const int threads = count > 2 ? std::atoi(arguments[2]) : 0;
    std::int64_t head[4];  // rows, columns, drop_same_camera, bytes of a distance
    while (file && std::fread(head, sizeof(head), 1, file) == 1) {
        const int code = head[3] == 4 ? table<float>(file, head[0], head[1], head[2] != 0, threads)
                                      : table<double>(file, head[0], head[1], head[2] != 0, threads);
        if (code) return code;
    }
    return file ? std::fclose(file) : 2;
}
