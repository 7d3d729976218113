// New memory is had a page at a time, and of small pages a large gradient has so many that having it takes longer than
// filling it. Torch frees large tensors back to the system, so every step pays.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace reid {

// Asks for large pages where the gradient of this problem will be written. A wish: without them all is the same, slower.
template <class Problem>
void wish_for_large_pages([[maybe_unused]] const Problem& problem) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    constexpr std::uintptr_t page = std::uintptr_t{1} << 21;
    const auto start = reinterpret_cast<std::uintptr_t>(problem.gradient);
    const auto end = start + static_cast<std::size_t>(problem.rows * problem.classes) * sizeof(*problem.gradient);
    const std::uintptr_t first = (start + page - 1) / page * page;  // whole pages alone
    const std::uintptr_t last = end / page * page;
    if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}

}  // namespace reid
