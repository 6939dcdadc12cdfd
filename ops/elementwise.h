// Small operators on whole tensors. They take any row stride unless said otherwise, and are deterministic for any
// number of threads. Errors: InvalidArgument when shapes or dtypes disagree.
#ifndef ISTHMUS_OPS_ELEMENTWISE_H_
#define ISTHMUS_OPS_ELEMENTWISE_H_

#include <absl/status/status.h>

#include "runtime/operator_cost.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

// Computes y += x. x, y [N, D] are fp32 | bf16 | fp64, the same; bf16 adds in fp32 and rounds.
struct AddArgs {
  ConstTensor x;
  Tensor y;

  OperatorCost Cost() const;
};
absl::Status Add(const AddArgs& args, Stream& stream);

// Computes y = x - y. x, y [N, D] are fp32 | fp64, the same.
struct SubtractFromArgs {
  ConstTensor x;
  Tensor y;

  OperatorCost Cost() const;
};
absl::Status SubtractFrom(const SubtractFromArgs& args, Stream& stream);

// Computes y = x_factor x + y_factor y. x, y [N, D] are fp32 | fp64, the same; the factors are rounded to that type. x
// may be y, else they do not overlap. If y_factor is 0, y is not read: NaN or infinity that it held does not survive.
struct CombineArgs {
  ConstTensor x;
  Tensor y;
  double x_factor = 1;
  double y_factor = 1;

  OperatorCost Cost() const;
};
absl::Status Combine(const CombineArgs& args, Stream& stream);

// Computes x = x / (√Σ x² + epsilon), with the sum over all elements in fp64 over fixed blocks. x [N, D] is fp32 | fp64.
struct NormaliseArgs {
  Tensor x;
  double epsilon = 0;

  OperatorCost Cost() const;
};
absl::Status Normalise(const NormaliseArgs& args, Stream& stream);

// Computes x = x √(squares[1] / squares[0]). `squares` is fp64 [1, 2] in memory of the stream's device: Σ x², over all
// ranks that have a part of it, and what it is to become. x [N, D] is fp32 | bf16 | fp64; the factor is rounded to fp32
// (fp64 for fp64). If squares[0] is 0, x stays as it is.
struct ScaleToNormArgs {
  Tensor x;
  ConstTensor squares;

  OperatorCost Cost() const;
};
absl::Status ScaleToNorm(const ScaleToNormArgs& args, Stream& stream);

// Copies x to y [N, D], converting between fp32, bf16 and fp64 (round to nearest even).
struct CastArgs {
  ConstTensor x;
  Tensor y;

  OperatorCost Cost() const;
};
absl::Status Cast(const CastArgs& args, Stream& stream);

// Sets every element to zero.
struct SetZeroArgs {
  Tensor x;

  OperatorCost Cost() const;
};
absl::Status SetZero(const SetZeroArgs& args, Stream& stream);

// Computes total += Σ x, summed in fp64 over fixed blocks. x is fp32 | bf16 | fp64; total is fp64 [1, 1], in memory of
// the stream's device. Non-finite elements give a non-finite result.
struct AddSumArgs {
  ConstTensor x;
  Tensor total;

  OperatorCost Cost() const;
};
absl::Status AddSum(const AddSumArgs& args, Stream& stream);

// Computes total += Σ x², in the same way.
struct AddSumOfSquaresArgs {
  ConstTensor x;
  Tensor total;

  OperatorCost Cost() const;
};
absl::Status AddSumOfSquares(const AddSumOfSquaresArgs& args, Stream& stream);

// Computes total += Σ x y, in the same way. y has the shape and the dtype of x.
struct AddDotArgs {
  ConstTensor x;
  ConstTensor y;
  Tensor total;

  OperatorCost Cost() const;
};
absl::Status AddDot(const AddDotArgs& args, Stream& stream);

// The implementations take checked arguments.
namespace cpu {
absl::Status Add(const AddArgs& args);
absl::Status SubtractFrom(const SubtractFromArgs& args);
absl::Status Combine(const CombineArgs& args);
absl::Status Normalise(const NormaliseArgs& args);
absl::Status ScaleToNorm(const ScaleToNormArgs& args);
absl::Status Cast(const CastArgs& args);
absl::Status SetZero(const SetZeroArgs& args);
absl::Status AddSum(const AddSumArgs& args);
absl::Status AddSumOfSquares(const AddSumOfSquaresArgs& args);
absl::Status AddDot(const AddDotArgs& args);
}  // namespace cpu
namespace cuda {
absl::Status Add(const AddArgs& args, const Context& context);
absl::Status SubtractFrom(const SubtractFromArgs& args, const Context& context);
absl::Status Combine(const CombineArgs& args, const Context& context);
absl::Status Normalise(const NormaliseArgs& args, const Context& context);
absl::Status ScaleToNorm(const ScaleToNormArgs& args, const Context& context);
absl::Status Cast(const CastArgs& args, const Context& context);
absl::Status SetZero(const SetZeroArgs& args, const Context& context);
absl::Status AddSum(const AddSumArgs& args, const Context& context);
absl::Status AddSumOfSquares(const AddSumOfSquaresArgs& args, const Context& context);
absl::Status AddDot(const AddDotArgs& args, const Context& context);
}  // namespace cuda

}  // namespace isthmus

#endif  // ISTHMUS_OPS_ELEMENTWISE_H_
