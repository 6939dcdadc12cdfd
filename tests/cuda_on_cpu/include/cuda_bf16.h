// Conversions of bf16, as the kernels use them.
#ifndef ISTHMUS_TESTS_CUDA_ON_CPU_INCLUDE_CUDA_BF16_H_
#define ISTHMUS_TESTS_CUDA_ON_CPU_INCLUDE_CUDA_BF16_H_

#include <cstdint>

#include "runtime/dtype.h"

using __nv_bfloat16 = isthmus::BFloat16;
inline __nv_bfloat16 __float2bfloat16_rn(float value) { return isthmus::BFloat16(value); }
inline uint16_t __bfloat16_as_ushort(__nv_bfloat16 value) { return value.bits; }

#endif  // ISTHMUS_TESTS_CUDA_ON_CPU_INCLUDE_CUDA_BF16_H_
