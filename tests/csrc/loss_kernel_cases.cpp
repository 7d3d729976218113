// The kernels of the losses in csrc/cuda, to be called with arrays by test_loss_kernels.py.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "co_refine_kernel.hpp"
#include "confidence_penalty_kernel.hpp"
#include "cross_entropy_kernel.hpp"
#include "label_check_kernel.hpp"
#include "soft_target_kernel.hpp"

namespace {

struct Call {
    std::int64_t rows;
    std::int64_t classes;
    void* const* arrays;
    const std::int64_t* strides;  // of the arrays that have one, else 0
    const double* weights;

    template <class T>
    T* array(int i) const {
        return static_cast<T*>(arrays[i]);
    }
    template <class T>
    reid::Rows<T> matrix(int i) const {
        return {array<const T>(i), strides[i]};
    }
    template <class T>
    reid::Column<T> column(int i) const {
        return {array<const T>(i), strides[i]};
    }
};

// What several blocks of a row leave for the last kernel, of exactly that size and not written yet.
template <class Part>
std::vector<Part> room(const Call& call, int networks) {
    const std::int64_t count = reid::Parts(call.classes).count;
    std::vector<Part> parts(static_cast<std::size_t>(count == 1 ? 0 : networks * call.rows * count));
    std::memset(static_cast<void*>(parts.data()), 0xff, parts.size() * sizeof(Part));
    return parts;
}

template <class Real, class Target>
void soft_target(const std::string& op, const Call& c) {
    using Loss = reid::LossOf<Real>;
    if (op == "soft_target") {
        auto parts = room<reid::RowPart>(c, 1);
        reid::launch_soft_target<Real, Target>({c.rows, c.classes, c.matrix<Real>(0), c.matrix<Target>(1),
                                                c.array<Loss>(2), c.array<double>(3)},
                                               parts.data(), nullptr);
    } else {
        reid::launch_soft_target_backward<Real, Target>({c.rows, c.classes, c.matrix<Real>(0), c.matrix<Target>(1),
                                                         c.array<double>(2), c.column<Loss>(3), c.array<Real>(4)},
                                                        nullptr);
    }
}

template <class Real>
void run(const std::string& op, bool wide_targets, const Call& c) {
    using Loss = reid::LossOf<Real>;
    const double* w = c.weights;
    if (op == "co_refine") {
        auto parts = room<reid::PairPart>(c, 2);
        reid::launch_co_refine<Real>({c.rows,
                                      c.classes,
                                      {c.matrix<Real>(0), c.matrix<Real>(1)},
                                      w[0],
                                      w[1],
                                      w[2],
                                      {c.array<Loss>(2), c.array<Loss>(3)},
                                      c.array<double>(4)},
                                     parts.data(), nullptr);
    } else if (op == "co_refine_backward") {
        reid::launch_co_refine_backward<Real>({c.rows, c.classes, c.matrix<Real>(0), c.matrix<Real>(1),
                                               c.array<double>(2), c.array<double>(3), w[0], w[1], w[2],
                                               c.column<Loss>(4), c.array<Real>(5)},
                                              nullptr);
    } else if (op == "cross_entropy") {
        auto parts = room<reid::RowPart>(c, 1);
        reid::launch_cross_entropy<Real>({c.rows, c.classes, c.matrix<Real>(0), c.column<std::int64_t>(1),
                                          c.array<Loss>(2), w[0], w[1], w[2], c.array<Loss>(3), c.array<double>(4)},
                                         parts.data(), nullptr);
    } else if (op == "cross_entropy_backward") {
        reid::launch_cross_entropy_backward<Real>({c.rows, c.classes, c.matrix<Real>(0), c.column<std::int64_t>(1),
                                                   c.array<Loss>(2), c.array<double>(3), w[0], w[1], w[2],
                                                   c.column<Loss>(4), c.array<Real>(5)},
                                                  nullptr);
    } else if (op == "confidence_penalty") {
        auto parts = room<reid::RowPart>(c, 1);
        reid::launch_confidence_penalty<Real>(
            {c.rows, c.classes, c.matrix<Real>(0), c.array<Loss>(1), c.array<double>(2)}, parts.data(), nullptr);
    } else if (op == "confidence_penalty_backward") {
        reid::launch_confidence_penalty_backward<Real>(
            {c.rows, c.classes, c.matrix<Real>(0), c.array<double>(1), c.column<Loss>(2), c.array<Real>(3)}, nullptr);
    } else if (op == "peer_statistics") {
        auto parts = room<reid::RowPart>(c, 1);
        reid::launch_peer_statistics<Real>({c.rows,
                                            c.classes,
                                            {c.matrix<Real>(0), c.matrix<Real>(1)},
                                            c.column<std::int64_t>(2),
                                            c.array<Loss>(3),
                                            c.array<std::int64_t>(4)},
                                           parts.data(), nullptr);
    } else if (op == "find_wrong_label") {
        auto* const found = c.array<reid::WrongLabel>(1);
        reid::launch_find_wrong_label(c.column<std::int64_t>(0), c.rows, c.classes, found, nullptr);
    } else if (op == "soft_target" || op == "soft_target_backward") {
        if (wide_targets) {
            soft_target<Real, Loss>(op, c);
        } else {
            soft_target<Real, Real>(op, c);
        }
    } else {
        throw std::runtime_error("there is no op " + op);
    }
}

}  // namespace

// An empty message where the kernel ended well.
extern "C" void run_loss(const char* op, const char* type, bool wide_targets, std::uint64_t seed, std::int64_t rows,
                         std::int64_t classes, void* const* arrays, const std::int64_t* strides, const double* weights,
                         char* message, int size) {
    std::snprintf(message, size, "%s", "");
    try {
        cuda_on_host::seed = seed;
        const std::string name(type);
        const Call call{rows, classes, arrays, strides, weights};
        if (name == "float32") run<float>(op, wide_targets, call);
        if (name == "float64") run<double>(op, wide_targets, call);
        if (name == "bfloat16") run<reid::BFloat16>(op, wide_targets, call);
        if (name == "float16") run<reid::Float16>(op, wide_targets, call);
    } catch (const std::exception& error) {
        std::snprintf(message, size, "%s", error.what());
    }
}
