// Vectors and their exponential for one instruction set: included with REID_ISA_NAMESPACE set and, unless the code is to be
// plain, REID_VECTOR_BYTES. No include guard, that is the point. A plain vector is one number, so what is written with
// these words is written once.

namespace reid {
namespace REID_ISA_NAMESPACE {

#if defined(REID_VECTOR_BYTES)
typedef float Floats __attribute__((vector_size(REID_VECTOR_BYTES)));
typedef double Doubles __attribute__((vector_size(REID_VECTOR_BYTES)));
typedef std::uint32_t Bits __attribute__((vector_size(REID_VECTOR_BYTES)));
#else
using Floats = float;
using Doubles = double;
using Bits = std::uint32_t;
#endif

template <class Real>
using VectorOf = std::conditional_t<sizeof(Real) == 4, Floats, Doubles>;
template <class Real>
constexpr std::ptrdiff_t lanes = sizeof(VectorOf<Real>) / sizeof(Real);

// Numbers that are added up in float32 before the sum goes on in float64: at most sixteen a lane, eight where lanes are
// many. Of equal numbers every rounding error goes the same way, and 32 a lane cost a digit.
constexpr std::ptrdiff_t sum_block = std::max<std::ptrdiff_t>(64, 8 * lanes<float>);

template <class Real>
inline VectorOf<Real> load(const Real* from) {
    VectorOf<Real> vector;
    std::memcpy(&vector, from, sizeof(vector));
    return vector;
}

// Fewer numbers than a vector holds, and `padding` behind them.
template <class Real>
inline VectorOf<Real> load_tail(const Real* from, std::ptrdiff_t size, Real padding = 0) {
    Real all[lanes<Real>];
    for (std::ptrdiff_t j = 0; j < lanes<Real>; ++j) all[j] = j < size ? from[j] : padding;
    return load(all);
}

template <class Real, class Vector>
inline void store(Real* to, Vector vector) {
    std::memcpy(to, &vector, sizeof(vector));
}

template <class Real, class Vector>
inline void store_tail(Real* to, Vector vector, std::ptrdiff_t size) {
    Real all[lanes<Real>];
    store(all, vector);
    for (std::ptrdiff_t j = 0; j < size; ++j) to[j] = all[j];
}

// To an address that is a multiple of the vector's size, past the cache where the instruction set can.
#if defined(REID_VECTOR_BYTES) && REID_VECTOR_BYTES == 64
inline void stream(float* to, Floats vector) { _mm512_stream_ps(to, vector); }
inline void stream(double* to, Doubles vector) { _mm512_stream_pd(to, vector); }
#elif defined(REID_VECTOR_BYTES) && REID_VECTOR_BYTES == 32
inline void stream(float* to, Floats vector) { _mm256_stream_ps(to, vector); }
inline void stream(double* to, Doubles vector) { _mm256_stream_pd(to, vector); }
#else
template <class Real>
inline void stream(Real* to, VectorOf<Real> vector) {
    store(to, vector);
}
#endif

template <class Real>
inline VectorOf<Real> filled(Real value) {
    return value - VectorOf<Real>{};
}

// x * y + z: rounded once where the instruction set can, else twice.
#if !defined(REID_VECTOR_BYTES) || REID_VECTOR_BYTES == 16
template <class Vector>
inline Vector multiply_add(Vector x, Vector y, Vector z) {
    return x * y + z;
}
#elif REID_VECTOR_BYTES == 32
inline Floats multiply_add(Floats x, Floats y, Floats z) { return _mm256_fmadd_ps(x, y, z); }
inline Doubles multiply_add(Doubles x, Doubles y, Doubles z) { return _mm256_fmadd_pd(x, y, z); }
#else
inline Floats multiply_add(Floats x, Floats y, Floats z) { return _mm512_fmadd_ps(x, y, z); }
inline Doubles multiply_add(Doubles x, Doubles y, Doubles z) { return _mm512_fmadd_pd(x, y, z); }
#endif

// e^x for x <= 0 (a rounding error above is all right), to one unit in the last place, also where the result is a denormal
// number; 0 for -inf, NaN for NaN.
//
// x = n * log(2) + r with a whole n; e^r = 1 + r + r^2 * q(r), where q has the least relative error on |r| <= log(2) / 2
// (3e-9); 2^n is made from its bits. All exponents are raised by 64, so that the last product rounds denormal results.
//
// Of several vectors step by step: each step waits for the one before, and the vectors need not wait for each other.
#if defined(REID_VECTOR_BYTES) && REID_VECTOR_BYTES == 64
inline Floats times_power_of_two(Floats x, Floats shifted, Floats shift) { return _mm512_scalef_ps(x, shifted - shift); }
#else
inline Floats times_power_of_two(Floats x, Floats shifted, Floats) {
    Bits scale;
    std::memcpy(&scale, &shifted, sizeof(scale));
    scale <<= 23;
    Floats factor;
    std::memcpy(&factor, &scale, sizeof(factor));
    return x * factor * 0x1p-64f;
}
#endif

template <std::size_t count>
inline void exp_all(Floats (&x)[count]) {
    const Floats least = filled(-104.0f);  // e^-104 rounds to 0
    const Floats shift = filled(0x1.8p23f + 127 + 64);
    Floats shifted[count], r[count], q[count];
    const auto each = [&](const auto& step) {
        for (std::size_t i = 0; i < count; ++i) step(i);
    };
    each([&](auto i) { x[i] = x[i] < least ? least : x[i]; });
    each([&](auto i) { shifted[i] = multiply_add(x[i], filled(0x1.715476p0f), shift); });  // its last bits are n + 127 + 64
    each([&](auto i) { q[i] = shifted[i] - shift; });                                      // n
    each([&](auto i) { r[i] = multiply_add(q[i], filled(-0x1.63p-1f), x[i]); });  // log(2) in two parts: the first is exact
    each([&](auto i) { r[i] = multiply_add(q[i], filled(0x1.bd0106p-13f), r[i]); });
    each([&](auto i) { q[i] = multiply_add(filled(0.00138145761815f), r[i], filled(0.00836872708721f)); });
    each([&](auto i) { q[i] = multiply_add(q[i], r[i], filled(0.0416683890648f)); });
    each([&](auto i) { q[i] = multiply_add(q[i], r[i], filled(0.166665205475f)); });
    each([&](auto i) { q[i] = multiply_add(q[i], r[i], filled(0.49999993442f)); });
    each([&](auto i) { q[i] = multiply_add(r[i] * r[i], q[i], r[i]) + 1.0f; });
    each([&](auto i) { x[i] = times_power_of_two(q[i], shifted[i], shift); });
}

template <std::size_t count>
inline void exp_all(Doubles (&x)[count]) {
    for (Doubles& vector : x) {
        double all[lanes<double>];
        store(all, vector);
        for (double& one : all) one = std::exp(one);
        vector = load(all);
    }
}

template <class Vector>
inline Vector exp_of(Vector x) {
    Vector one[1] = {x};
    exp_all(one);
    return one[0];
}

// The first `size` numbers, and 0 behind them.
template <class Vector>
inline Vector first_lanes(Vector vector, std::ptrdiff_t size) {
    using Real = std::conditional_t<std::is_same_v<Vector, Floats>, float, double>;
    Real all[lanes<Real>];
    store(all, vector);
    return load_tail(all, size);
}

template <class Real>
inline Real largest_lane(VectorOf<Real> vector) {
    Real all[lanes<Real>];
    store(all, vector);
    for (std::ptrdiff_t j = 1; j < lanes<Real>; ++j) all[0] = all[j] > all[0] ? all[j] : all[0];
    return all[0];
}

// The largest number, NaN left out; -inf where there is none.
template <class Real>
inline Real largest_of(const Real* values, std::ptrdiff_t size) {
    constexpr std::ptrdiff_t width = lanes<Real>;
    constexpr Real none = -std::numeric_limits<Real>::infinity();
    VectorOf<Real> top[4] = {filled(none), filled(none), filled(none), filled(none)};
    const auto take = [&](int k, VectorOf<Real> vector) { top[k] = vector > top[k] ? vector : top[k]; };
    std::ptrdiff_t j = 0;
    for (; j + 4 * width <= size; j += 4 * width) {
        for (int k = 0; k < 4; ++k) take(k, load(values + j + k * width));
    }
    for (; j + width <= size; j += width) take(0, load(values + j));
    if (j < size) take(1, load_tail(values + j, size - j, none));
    for (int k = 1; k < 4; ++k) take(0, top[k]);
    return largest_lane<Real>(top[0]);
}

// The next chunk is to come from memory while this one is worked on: asks for what lies where its block will be.
template <class Real>
inline void prefetch_next(const Real* block) {
    constexpr std::ptrdiff_t line = 64 / static_cast<std::ptrdiff_t>(sizeof(Real));
    for (std::ptrdiff_t j = 0; j < sum_block; j += line) prefetch(block + loss_chunk + j);
}

// Sums of many numbers: in float32 within a short block, in float64 across blocks; the lanes come together at the end.
// Where a vector is one number, a block would have too many terms for float32.
template <class Real>
struct Sum {
#if defined(REID_VECTOR_BYTES)
    using Number = Real;
    VectorOf<Real> block{};
#else
    using Number = double;
    double block = 0;
#endif
    double all[lanes<Real>] = {};

    void add(VectorOf<Real> vector) { block += vector; }
    void add_product(VectorOf<Real> one, VectorOf<Real> other) {
#if defined(REID_VECTOR_BYTES)
        block = multiply_add(one, other, block);
#else
        block += one * other;
#endif
    }
    void end_block() {
        Number parts[lanes<Real>];
        store(parts, block);
        for (std::ptrdiff_t j = 0; j < lanes<Real>; ++j) all[j] += parts[j];
        block = decltype(block){};
    }
    double total() const {
        double sum = 0;
        for (std::ptrdiff_t j = 0; j < lanes<Real>; ++j) sum += all[j];
        return sum;
    }
};

// out[j] = form(one[j], other[j]), a vector at a time.
template <class Real, class Form>
inline void map_vectors(const Real* one, const Real* other, std::ptrdiff_t size, Real* out, const Form& form) {
    constexpr std::ptrdiff_t width = lanes<Real>;
    std::ptrdiff_t j = 0;
    for (; j + width <= size; j += width) store(out + j, form(load(one + j), load(other + j)));
    if (j < size) store_tail(out + j, form(load_tail(one + j, size - j), load_tail(other + j, size - j)), size - j);
}

}  // namespace REID_ISA_NAMESPACE
}  // namespace reid
