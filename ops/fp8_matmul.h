// Matrix product of quantised operands (ops/quantize.h).
//
//   c = a_inverse · b_inverse · a bᵀ        or, with `accumulate`,   c += a_inverse · b_inverse · a bᵀ
//
//   a  [M, K]  fp8_e4m3 | fp8_e5m2
//   b  [N, K]  fp8_e4m3 | fp8_e5m2, not both fp8_e5m2
//   c  [M, N]  bf16 | fp32; with `accumulate` fp32
//   a_inverse, b_inverse  fp32 [1, 1], in memory of the stream's device
//   workspace  uint8, Fp8MatmulWorkspaceBytes
//
// M, N and K are multiples of 16; addresses and rows are multiples of 16 bytes. Both operands have K along the rows.
// These conditions and the pairs of types are what cuBLASLt offers for GPUs of compute capability 8.9 and 9.0. Older
// ones can't do it (DoesFp8). The CPU multiplies the dequantised operands in bf16, which holds them exactly when the
// scales are powers of two.
//
// Sums are kept in fp32. `fast_sums` lets a GPU's tensor cores keep them in fewer bits. That is good for activations,
// not for gradients. DeepSeek-AI 2024 (arXiv:2412.19437, section 3.3.2) measures about 14 bits on Hopper.
//
// Errors: InvalidArgument when shapes or dtypes disagree; Unimplemented on a GPU that can't do it. The result is
// deterministic.
#ifndef ISTHMUS_OPS_FP8_MATMUL_H_
#define ISTHMUS_OPS_FP8_MATMUL_H_

#include <absl/status/status.h>

#include <cstdint>

#include "runtime/operator_cost.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

// M, N and K must be multiples of it.
inline constexpr int64_t kFp8Multiple = 16;

struct Fp8MatmulArgs {
  ConstTensor a;
  ConstTensor b;
  Tensor c;
  ConstTensor a_inverse;
  ConstTensor b_inverse;
  Tensor workspace;
  bool accumulate = false;
  bool fast_sums = false;

  OperatorCost Cost() const;
};

absl::Status Fp8Matmul(const Fp8MatmulArgs& args, Stream& stream);

// The CPU keeps the dequantised operands in it.
int64_t Fp8MatmulWorkspaceBytes(int64_t m, int64_t n, int64_t k, Device device);

// Says whether GPUs of a compute capability multiply fp8: Ada, Hopper and later do.
constexpr bool DoesFp8(int major, int minor) { return major > 8 || (major == 8 && minor >= 9); }

// The implementations take checked arguments.
namespace cpu {
absl::Status Fp8Matmul(const Fp8MatmulArgs& args);
int64_t Fp8MatmulWorkspaceBytes(int64_t m, int64_t n, int64_t k);
}  // namespace cpu
namespace cuda {
absl::Status Fp8Matmul(const Fp8MatmulArgs& args, const Context& context);
}  // namespace cuda

}  // namespace isthmus

#endif  // ISTHMUS_OPS_FP8_MATMUL_H_
