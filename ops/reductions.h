// Sums along the rows and the columns of a matrix, in fp64.
//
//   RowDots            dots[n]   = Σ_d x[n, d] y[n, d]
//   AddColumnSums      total[d] += Σ_n x[n, d]
//   AddColumnSquares   total[d] += Σ_n x[n, d]²
//   AddUnitRows        total[d] += Σ_n x[n, d] / √squares[n]     a row with squares[n] = 0 counts as zero
//
//   x        [N, D]  fp32 | bf16 | fp64, any row stride
//   y        [N, D]  dtype of x; may be x itself
//   dots     [1, N]  fp64
//   squares  [1, N]  fp64: RowDots of x with itself
//   total    [1, D]  fp64
//
// The result is deterministic for any number of threads. Errors: InvalidArgument when shapes or dtypes disagree. Cost:
// one pass over the matrices.
#ifndef ISTHMUS_OPS_REDUCTIONS_H_
#define ISTHMUS_OPS_REDUCTIONS_H_

#include <absl/status/status.h>

#include "runtime/operator_cost.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

struct RowDotsArgs {
  ConstTensor x;
  ConstTensor y;
  Tensor dots;

  OperatorCost Cost() const;
};
absl::Status RowDots(const RowDotsArgs& args, Stream& stream);

struct AddColumnSumsArgs {
  ConstTensor x;
  Tensor total;

  OperatorCost Cost() const;
};
absl::Status AddColumnSums(const AddColumnSumsArgs& args, Stream& stream);

struct AddColumnSquaresArgs {
  ConstTensor x;
  Tensor total;

  OperatorCost Cost() const;
};
absl::Status AddColumnSquares(const AddColumnSquaresArgs& args, Stream& stream);

struct AddUnitRowsArgs {
  ConstTensor x;
  ConstTensor squares;
  Tensor total;

  OperatorCost Cost() const;
};
absl::Status AddUnitRows(const AddUnitRowsArgs& args, Stream& stream);

// The implementations take checked arguments.
namespace cpu {
absl::Status RowDots(const RowDotsArgs& args);
absl::Status AddColumnSums(const AddColumnSumsArgs& args);
absl::Status AddColumnSquares(const AddColumnSquaresArgs& args);
absl::Status AddUnitRows(const AddUnitRowsArgs& args);
}  // namespace cpu
namespace cuda {
absl::Status RowDots(const RowDotsArgs& args, const Context& context);
absl::Status AddColumnSums(const AddColumnSumsArgs& args, const Context& context);
absl::Status AddColumnSquares(const AddColumnSquaresArgs& args, const Context& context);
absl::Status AddUnitRows(const AddUnitRowsArgs& args, const Context& context);
}  // namespace cuda

}  // namespace isthmus

#endif  // ISTHMUS_OPS_REDUCTIONS_H_
