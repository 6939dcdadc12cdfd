// In these operators a vector meets every row or every column of a matrix.
//
//   AddRow      y[n, d] += x[d]
//   ScaleRows   y[n, d]  = f[n] x[n, d] + [accumulate] y[n, d], or with 1 / f[n] in place of f[n]
//
//   AddRow      x [1, D]  fp32 | bf16 | fp64;  y [N, D]  the accumulation type of x
//   ScaleRows   x, y [N, D]  fp32 | bf16 | fp64, the same; f [N, 1]  dtype of x, or bf16 with fp32 x. x may be y
//
// bf16 is computed in fp32 and rounded once. Deterministic. Any row stride. Errors: InvalidArgument when shapes or
// dtypes disagree. Cost: one pass over the matrices.
#ifndef ISTHMUS_OPS_BROADCAST_H_
#define ISTHMUS_OPS_BROADCAST_H_

#include <absl/status/status.h>

#include "runtime/operator_cost.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

struct AddRowArgs {
  ConstTensor x;
  Tensor y;

  OperatorCost Cost() const;
};
absl::Status AddRow(const AddRowArgs& args, Stream& stream);

struct ScaleRowsArgs {
  ConstTensor x;
  ConstTensor factors;
  Tensor y;
  bool inverse = false;     // 1 / f[n]
  bool accumulate = false;  // else y is not read

  OperatorCost Cost() const;
};
absl::Status ScaleRows(const ScaleRowsArgs& args, Stream& stream);

// The implementations take checked arguments.
namespace cpu {
absl::Status AddRow(const AddRowArgs& args);
absl::Status ScaleRows(const ScaleRowsArgs& args);
}  // namespace cpu
namespace cuda {
absl::Status AddRow(const AddRowArgs& args, const Context& context);
absl::Status ScaleRows(const ScaleRowsArgs& args, const Context& context);
}  // namespace cuda

}  // namespace isthmus

#endif  // ISTHMUS_OPS_BROADCAST_H_
