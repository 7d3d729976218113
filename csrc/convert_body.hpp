// 16-bit numbers to float32 and back for one instruction set. No include guard, that is the point.

namespace reid {
namespace REID_ISA_NAMESPACE {

template <class Real>
void widen_all(const Real* from, std::ptrdiff_t size, float* to) {
    for (std::ptrdiff_t j = 0; j < size; ++j) to[j] = widen(from[j]);
}

template <class Real>
void narrow_all(const float* from, std::ptrdiff_t size, Real* to) {
    for (std::ptrdiff_t j = 0; j < size; ++j) narrow(from[j], to[j]);
}

}  // namespace REID_ISA_NAMESPACE
}  // namespace reid
