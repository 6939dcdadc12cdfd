// Conversions to 8 bits, as the kernels use them.
#ifndef ISTHMUS_TESTS_CUDA_ON_CPU_INCLUDE_CUDA_FP8_H_
#define ISTHMUS_TESTS_CUDA_ON_CPU_INCLUDE_CUDA_FP8_H_

#include <cstdint>

#include "runtime/dtype.h"

struct float2 {
  float x, y;
};
inline float2 make_float2(float x, float y) { return {x, y}; }

enum __nv_saturation_t { __NV_NOSAT, __NV_SATFINITE };
enum __nv_fp8_interpretation_t { __NV_E4M3, __NV_E5M2 };
using __nv_fp8x2_storage_t = uint16_t;

inline __nv_fp8x2_storage_t __nv_cvt_float2_to_fp8x2(float2 value, __nv_saturation_t,
                                                     __nv_fp8_interpretation_t format) {
  const auto code = [format](float x) {
    return format == __NV_E4M3 ? isthmus::Float8E4M3(x).bits : isthmus::Float8E5M2(x).bits;
  };
  return static_cast<uint16_t>(code(value.x) | code(value.y) << 8);
}

#endif  // ISTHMUS_TESTS_CUDA_ON_CPU_INCLUDE_CUDA_FP8_H_
