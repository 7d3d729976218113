// Includes REID_BODY once for each instruction set, in namespaces of their own, after the vectors of vectors_body.hpp.
// No include guard: each loss has its body. REID_FOR_ISA(isa, f(x)) returns what the f of that set returns.

#define REID_ISA_NAMESPACE isa_plain
#if !defined(REID_VECTORS_INCLUDED)
#include "vectors_body.hpp"
#endif
#include REID_BODY
#undef REID_ISA_NAMESPACE

#if defined(REID_HAS_VECTORS)
#define REID_ISA_NAMESPACE isa_vector128
#define REID_VECTOR_BYTES 16
#if !defined(REID_VECTORS_INCLUDED)
#include "vectors_body.hpp"
#endif
#include REID_BODY
#undef REID_ISA_NAMESPACE
#undef REID_VECTOR_BYTES
#endif

#if defined(REID_HAS_AVX)
REID_BEGIN_TARGET("avx2,fma")
#define REID_ISA_NAMESPACE isa_avx2
#define REID_VECTOR_BYTES 32
#if !defined(REID_VECTORS_INCLUDED)
#include "vectors_body.hpp"
#endif
#include REID_BODY
#undef REID_ISA_NAMESPACE
#undef REID_VECTOR_BYTES
REID_END_TARGET

#if !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12's own header of AVX-512 is not clean
#endif
REID_BEGIN_TARGET("avx512f,avx512dq")
#define REID_ISA_NAMESPACE isa_avx512
#define REID_VECTOR_BYTES 64
#if !defined(REID_VECTORS_INCLUDED)
#include "vectors_body.hpp"
#endif
#include REID_BODY
#undef REID_ISA_NAMESPACE
#undef REID_VECTOR_BYTES
REID_END_TARGET
#if !defined(__clang__)
#pragma GCC diagnostic pop
#endif
#endif

#if !defined(REID_VECTORS_INCLUDED)
#define REID_VECTORS_INCLUDED
#if defined(REID_HAS_AVX)
#define REID_FOR_ISA(isa, call)                           \
    switch (isa) {                                        \
        case Isa::avx512: return isa_avx512::call;        \
        case Isa::avx2: return isa_avx2::call;            \
        case Isa::vector128: return isa_vector128::call;  \
        default: return isa_plain::call;                  \
    }
#elif defined(REID_HAS_VECTORS)
#define REID_FOR_ISA(isa, call)                           \
    switch (isa) {                                        \
        case Isa::vector128: return isa_vector128::call;  \
        default: return isa_plain::call;                  \
    }
#else
#define REID_FOR_ISA(isa, call) \
    return isa_plain::call
#endif
#endif
