// How far the exponential of vectors_body.hpp is from the true one, for one instruction set. No include guard, that is the
// point.

namespace reid {
namespace REID_ISA_NAMESPACE {

// Units in the last place, at most, over [-106, 0] and at the ends; infinite where one of those is wrong.
inline double worst_exponential() {
    double worst = 0;
    const auto at = [](float x) {
        float all[lanes<float>];
        store(all, exp_of(filled(x)));
        return all[lanes<float> - 1];
    };
    for (double x = -106; x <= 0; x += 1.0 / 1031) {
        const float found = at(static_cast<float>(x));
        const double exact = std::exp(static_cast<double>(static_cast<float>(x)));
        const double unit = std::fmax(std::ldexp(1.0, std::ilogb(exact) - 23), 0x1p-149);
        worst = std::fmax(worst, std::abs(found - exact) / unit);
    }
    const float infinity = std::numeric_limits<float>::infinity();
    const float nothing = at(std::numeric_limits<float>::quiet_NaN());
    const bool right = at(0) == 1 && at(-infinity) == 0 && at(-1e30f) == 0 && at(-103) == 0x1p-149f && nothing != nothing;
    return right ? worst : std::numeric_limits<double>::infinity();
}

}  // namespace REID_ISA_NAMESPACE
}  // namespace reid
