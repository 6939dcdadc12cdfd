// A linear layer without bias: y = x Wᵀ. Column- and row-parallel layers differ in where their inputs and outputs cross
// the border of the tensor-parallel region (model/tensor_region.h), not in the products.
#ifndef ISTHMUS_MODEL_LINEAR_H_
#define ISTHMUS_MODEL_LINEAR_H_

#include <absl/status/status.h>

#include "ops/matmul.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

struct Linear {
  Tensor weight;    // [out, in] compute type
  Tensor gradient;  // [out, in] accumulation type

  // y [N, out] = x [N, in] Wᵀ.
  absl::Status Forward(const Tensor& x, const Tensor& y, Stream& stream) const {
    return Matmul({.a = x, .b = weight, .c = y, .transpose_b = true}, stream);
  }
  // grad_x [N, in] = grad_y [N, out] W.
  absl::Status BackwardInput(const Tensor& grad_y, const Tensor& grad_x, Stream& stream) const {
    return Matmul({.a = grad_y, .b = weight, .c = grad_x}, stream);
  }
  // gradient += grad_yᵀ x.
  absl::Status BackwardWeight(const Tensor& grad_y, const Tensor& x, Stream& stream) const {
    return Matmul({.a = grad_y, .b = x, .c = gradient, .transpose_a = true, .accumulate = true}, stream);
  }
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_LINEAR_H_
