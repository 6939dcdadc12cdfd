// Gram matrix of two tall matrices, summed in fp64 (DESIGN 4.4).
//
//   c += xᵀ y
//
//   x  [N, D1]   fp32 | bf16 | fp64
//   y  [N, D2]   dtype of x; may be x itself, then only half of the work is done where that is faster
//   c  [D1, D2]  fp64; symmetric where y is x
//
// Products of blocks of rows are formed in fp32 (fp64 for fp64). The blocks are added in fp64, so that the error does
// not grow with N. The result is deterministic. Errors: InvalidArgument when shapes or dtypes disagree. Cost: 2·N·D1·D2
// operations.
#ifndef ISTHMUS_OPS_GRAM_H_
#define ISTHMUS_OPS_GRAM_H_

#include <absl/status/status.h>

#include "runtime/operator_cost.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

struct GramArgs {
  ConstTensor x;
  ConstTensor y;
  Tensor c;
  Tensor workspace;  // fp32 [D1, D2] for fp32 and bf16 x; unused for fp64

  OperatorCost Cost() const;
};

absl::Status Gram(const GramArgs& args, Stream& stream);

// The implementations take checked arguments.
namespace cpu {
absl::Status Gram(const GramArgs& args);
}  // namespace cpu
namespace cuda {
absl::Status Gram(const GramArgs& args, const Context& context);
}  // namespace cuda

}  // namespace isthmus

#endif  // ISTHMUS_OPS_GRAM_H_
