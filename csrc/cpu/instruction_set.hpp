// The instruction set that ops use: the best of this processor, or REID_CORE_ISA, which is there for tests and comparisons.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <cstdlib>
#include <cstring>
#include <string>

#include "isa.hpp"

namespace reid {

inline Isa instruction_set() {
    const char* wanted = std::getenv("REID_CORE_ISA");
    static const Isa best = best_isa();
    if (wanted == nullptr || *wanted == '\0') return best;
    std::string known;
    for (std::int32_t i = 0; i < num_isas; ++i) {
        const Isa isa = static_cast<Isa>(i);
        if (!isa_available(isa)) continue;
        if (std::strcmp(wanted, isa_name(isa)) == 0) return isa;
        known += (known.empty() ? "" : ", ") + std::string(isa_name(isa));
    }
    STD_TORCH_CHECK(false, "REID_CORE_ISA is '", wanted, "'; this machine has ", known);
    return best;
}

}  // namespace reid
