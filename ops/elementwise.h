// Small operators on whole tensors. Any row stride unless said otherwise; errors: InvalidArgument when shapes or dtypes
// disagree; deterministic for any number of threads.
#ifndef ISTHMUS_OPS_ELEMENTWISE_H_
#define ISTHMUS_OPS_ELEMENTWISE_H_

#include <absl/status/status.h>

#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

// y += x. x, y [N, D] fp32 | bf16 | fp64, the same; bf16 adds in fp32 and rounds.
absl::Status Add(const Tensor& x, const Tensor& y, Stream& stream);

// y = x - y. x, y [N, D] fp32 | fp64, the same.
absl::Status SubtractFrom(const Tensor& x, const Tensor& y, Stream& stream);

// Copies x to y [N, D], converting between fp32, bf16 and fp64 (round to nearest even).
absl::Status Cast(const Tensor& x, const Tensor& y, Stream& stream);

// Sets every element to zero.
absl::Status SetZero(const Tensor& x, Stream& stream);

// total += Σ x, summed in fp64 over fixed blocks. x fp32 | bf16 | fp64; total fp64 [1, 1], in memory of the stream's
// device. Non-finite elements give a non-finite result.
absl::Status AddSum(const Tensor& x, const Tensor& total, Stream& stream);

// total += Σ x², in the same way.
absl::Status AddSumOfSquares(const Tensor& x, const Tensor& total, Stream& stream);

}  // namespace isthmus

#endif  // ISTHMUS_OPS_ELEMENTWISE_H_
