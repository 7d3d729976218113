// Feeds csrc/rank.hpp from a file and prints what it answers; the test compiles this with sanitizers.
// Every array is a heap block of exactly its size, so that one step outside is a report.
#include <cstdio>
#include <cstring>
#include <memory>

#include "rank.hpp"

namespace {

template <class T>
struct Block {
    explicit Block(std::ptrdiff_t size) : data(new T[static_cast<std::size_t>(size)]), size(size) {}
    bool read(std::FILE* file) { return std::fread(data.get(), sizeof(T), size, file) == static_cast<std::size_t>(size); }
    std::unique_ptr<T[]> data;
    std::ptrdiff_t size;
};

template <class Real>
bool table(std::FILE* file, std::int64_t rows, std::int64_t columns, bool drop) {
    Block<std::int64_t> q_pids(rows), g_pids(columns), q_camids(rows), g_camids(columns), counts(4 * rows);
    Block<Real> distances(rows * columns);
    Block<double> scores(3 * rows);
    if (!(q_pids.read(file) && g_pids.read(file) && q_camids.read(file) && g_camids.read(file) && distances.read(file)))
        return false;
    const reid::Gallery gallery(g_pids.data.get(), g_camids.data.get(), columns);
    const auto bad = reid::rank_rows(distances.data.get(), rows, gallery, q_pids.data.get(), q_camids.data.get(), drop,
                                     reid::Isa::plain, counts.data.get(), scores.data.get());
    for (std::int32_t number = 1; number < reid::num_isas; ++number) {  // every instruction set gives the same bits
        const auto isa = static_cast<reid::Isa>(number);
        if (!reid::isa_available(isa)) continue;
        Block<std::int64_t> again(4 * rows);
        Block<double> more(3 * rows);
        const auto also = reid::rank_rows(distances.data.get(), rows, gallery, q_pids.data.get(), q_camids.data.get(),
                                          drop, isa, again.data.get(), more.data.get());
        const bool same = also.row == bad.row && also.column == bad.column &&
                          (bad.row >= 0 || (!std::memcmp(again.data.get(), counts.data.get(), 32 * rows) &&
                                            !std::memcmp(more.data.get(), scores.data.get(), 24 * rows)));
        if (!same) std::printf("%s differs from plain: ", reid::isa_name(isa));
    }
    std::printf("%td %td", bad.row, bad.column);
    if (bad.row < 0) {
        for (std::ptrdiff_t i = 0; i < counts.size; ++i) std::printf(" %lld", static_cast<long long>(counts.data[i]));
        for (std::ptrdiff_t i = 0; i < scores.size; ++i) std::printf(" %.17g", scores.data[i]);
    }
    std::printf("\n");
    return true;
}

}  // namespace

int main(int, char** arguments) {
    std::FILE* file = std::fopen(arguments[1], "rb");
    std::int64_t head[4];  // rows, columns, drop_same_camera, bytes of a distance
    while (file && std::fread(head, sizeof(head), 1, file) == 1) {
        const bool done = head[3] == 4 ? table<float>(file, head[0], head[1], head[2] != 0)
                                       : table<double>(file, head[0], head[1], head[2] != 0);
        if (!done) return 2;
    }
    return file ? std::fclose(file) : 2;
}
