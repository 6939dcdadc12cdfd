// Cuts fp32 into bf16 parts, whose products on a GPU are many times as fast as those of fp32:
//
//   x ≈ high + middle + low,   high = bf16(x), middle = bf16(x - high), low = bf16(x - high - middle)
//
//   x                  [N, D]  fp32
//   high, middle, low  [N, D]  bf16
//
// Rows may have any stride. Three parts hold the 24 bits of a number exactly, unless the last of them lie below bf16's
// smallest number. In the product of two numbers, the terms down to high·low and middle·middle make all but some 2⁻²⁴.
// Errors: InvalidArgument when shapes or dtypes disagree.
#ifndef ISTHMUS_OPS_SPLIT_H_
#define ISTHMUS_OPS_SPLIT_H_

#include <absl/status/status.h>

#include "runtime/operator_cost.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

struct SplitArgs {
  ConstTensor x;
  Tensor high, middle, low;

  OperatorCost Cost() const;
};

absl::Status Split(const SplitArgs& args, Stream& stream);

// Cuts the factors as the product wants them. The left one, a [M, K] fp32, becomes parts [M, 3 K] bf16, side by side.
// The right one, b [K, N] fp32, becomes parts [6 K, N] bf16, one below the other: high, high, high, middle, middle,
// low.
struct SplitLeftArgs {
  ConstTensor a;
  Tensor parts;
};
absl::Status SplitLeft(const SplitLeftArgs& args, Stream& stream);

struct SplitRightArgs {
  ConstTensor b;
  Tensor parts;
};
absl::Status SplitRight(const SplitRightArgs& args, Stream& stream);

// Computes c = a b to within some 2⁻²³ of |a| |b|, as a product in fp32 would. It adds three products of bf16 with sums
// in fp32, at a cost of 2·M·N·6·K operations.
struct SplitMatmulArgs {
  ConstTensor a;  // parts [M, 3 K], or bf16 [M, K] where that is a itself: then half of the operations
  ConstTensor b;  // parts [6 K, N]
  Tensor c;       // fp32 [M, N]
};
absl::Status SplitMatmul(const SplitMatmulArgs& args, Stream& stream);

// The implementations take checked arguments.
namespace cpu {
absl::Status Split(const SplitArgs& args);
}  // namespace cpu
namespace cuda {
absl::Status Split(const SplitArgs& args, const Context& context);
}  // namespace cuda

}  // namespace isthmus

#endif  // ISTHMUS_OPS_SPLIT_H_
