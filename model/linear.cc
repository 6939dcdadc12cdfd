#include "model/linear.h"

#include "ops/fp8_matmul.h"
#include "ops/matmul.h"
#include "ops/quantize.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr DType kForward = DType::kFloat8E4M3, kBackward = DType::kFloat8E5M2;

Tensor View(const Tensor& memory, DType dtype, int64_t rows, int64_t columns) {
  return Tensor(memory.data, dtype, rows, columns);
}

}  // namespace

absl::Status Linear::Forward(const Tensor& x, const Tensor& y, Stream& stream) const {
  if (fp8 == nullptr) return Matmul({.a = x, .b = weight, .c = y, .transpose_b = true}, stream);
  const Tensor left = View(fp8->left, kForward, x.rows, x.columns);
  const Tensor right = View(fp8->right, kForward, weight.rows, weight.columns);
  ISTHMUS_RETURN_IF_ERROR(Quantize({.x = x, .y = left, .inverse = fp8->left_inverse}, stream));
  ISTHMUS_RETURN_IF_ERROR(Quantize({.x = weight, .y = right, .inverse = fp8->right_inverse}, stream));
  return Fp8Matmul({.a = left,
                    .b = right,
                    .c = y,
                    .a_inverse = fp8->left_inverse,
                    .b_inverse = fp8->right_inverse,
                    .workspace = fp8->workspace,
                    .fast_sums = true},
                   stream);
}

absl::Status Linear::BackwardInput(const Tensor& grad_y, const Tensor& grad_x, Stream& stream) const {
  if (fp8 == nullptr) return Matmul({.a = grad_y, .b = weight, .c = grad_x}, stream);
  const Tensor left = View(fp8->left, kBackward, grad_y.rows, grad_y.columns);
  const Tensor left_transposed = View(fp8->gradient, kBackward, grad_y.columns, grad_y.rows);
  const Tensor right = View(fp8->right, kForward, weight.columns, weight.rows);
  ISTHMUS_RETURN_IF_ERROR(
      Quantize({.x = grad_y, .y = left, .transposed = left_transposed, .inverse = fp8->left_inverse}, stream));
  ISTHMUS_RETURN_IF_ERROR(Quantize({.x = weight, .transposed = right, .inverse = fp8->right_inverse}, stream));
  return Fp8Matmul({.a = left,
                    .b = right,
                    .c = grad_x,
                    .a_inverse = fp8->left_inverse,
                    .b_inverse = fp8->right_inverse,
                    .workspace = fp8->workspace},
                   stream);
}

absl::Status Linear::BackwardWeight(const Tensor& grad_y, const Tensor& x, Stream& stream) const {
  if (fp8 == nullptr) {
    return Matmul({.a = grad_y, .b = x, .c = gradient, .transpose_a = true, .accumulate = true}, stream);
  }
  // The input's gradient is done: its operands' memory is free, but for grad_yᵀ and its scale.
  const Tensor right = View(fp8->left, kForward, x.columns, x.rows);
  ISTHMUS_RETURN_IF_ERROR(Quantize({.x = x, .transposed = right, .inverse = fp8->right_inverse}, stream));
  return Fp8Matmul({.a = View(fp8->gradient, kBackward, grad_y.columns, grad_y.rows),
                    .b = right,
                    .c = gradient,
                    .a_inverse = fp8->left_inverse,
                    .b_inverse = fp8->right_inverse,
                    .workspace = fp8->workspace,
                    .accumulate = true},
                   stream);
}

}  // namespace isthmus
