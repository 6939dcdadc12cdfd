// Matrix product with optional transposes and accumulation.
//
//   c = op(a) op(b)        or, with `accumulate`,   c += op(a) op(b)
//
//   a  [M, K], or [K, M] with transpose_a     fp32 | bf16 | fp64
//   b  [K, N], or [N, K] with transpose_b     dtype of a
//   c  [M, N]                                 dtype of a, or fp32 with bf16 a
//
// Rows may have any stride. Sums are kept in fp32 (fp64 for fp64); `accumulate` needs an fp32 or fp64 c. c aliases
// neither a nor b. The result is deterministic for a given number of threads. Errors: InvalidArgument when shapes or
// dtypes disagree. Cost: 2·M·N·K floating-point operations.
#ifndef ISTHMUS_OPS_MATMUL_H_
#define ISTHMUS_OPS_MATMUL_H_

#include <absl/status/status.h>

#include <cstdint>

#include "runtime/operator_cost.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

struct MatmulArgs {
  ConstTensor a;
  ConstTensor b;
  Tensor c;
  bool transpose_a = false;
  bool transpose_b = false;
  bool accumulate = false;

  OperatorCost Cost() const;
};

absl::Status Matmul(const MatmulArgs& args, Stream& stream);

struct MatmulSizes {
  int64_t m, n, k;
};
inline MatmulSizes SizesOf(const MatmulArgs& args) {
  return {args.transpose_a ? args.a.columns : args.a.rows, args.transpose_b ? args.b.rows : args.b.columns,
          args.transpose_a ? args.a.rows : args.a.columns};
}

// The implementations take checked arguments.
namespace cpu {
absl::Status Matmul(const MatmulArgs& args);
}  // namespace cpu
namespace cuda {
absl::Status Matmul(const MatmulArgs& args, const Context& context);
}  // namespace cuda

}  // namespace isthmus

#endif  // ISTHMUS_OPS_MATMUL_H_
