#include "model/linear.h"

#include <absl/strings/str_cat.h>

#include <algorithm>

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

Fp8Scratch PlaceFp8Scratch(const PartSetting& setting, absl::Span<const LinearSize> sizes, TensorPlacer& placer) {
  if (!setting.fp8) return {};
  const int64_t tokens = setting.batch.tokens();
  int64_t features = 0, outputs = 0, weights = 0, workspace = 0;
  for (const auto [out, in] : sizes) {
    features = std::max({features, out, in});
    outputs = std::max(outputs, out);
    weights = std::max(weights, out * in);
    // The products are those for y, and for the gradients of x and of W.
    workspace = std::max({workspace, Fp8MatmulWorkspaceBytes(tokens, out, in, setting.device),
                          Fp8MatmulWorkspaceBytes(tokens, in, out, setting.device),
                          Fp8MatmulWorkspaceBytes(out, in, tokens, setting.device)});
  }
  const auto place = [&](const char* name, DType type, int64_t size) { return placer.Place(name, type, 1, size); };
  Fp8Scratch fp8;
  fp8.left = place("scratch.fp8_left", DType::kFloat8E4M3, tokens * features);
  fp8.right = place("scratch.fp8_right", DType::kFloat8E4M3, weights);
  if (setting.training) fp8.gradient = place("scratch.fp8_gradient", DType::kFloat8E5M2, tokens * outputs);
  fp8.left_inverse = place("scratch.fp8_left_inverse", DType::kFloat32, 1);
  fp8.right_inverse = place("scratch.fp8_right_inverse", DType::kFloat32, 1);
  fp8.workspace = place("scratch.fp8_workspace", DType::kUInt8, workspace);
  return fp8;
}

void CheckFp8Size(absl::string_view field, int64_t found, int64_t size, absl::string_view what, ConfigRules& rules) {
  rules.Require(size % kFp8Multiple == 0, field, found,
                absl::StrCat("precision.fp8_layers needs ", what, " (", size, ") to be a multiple of ", kFp8Multiple));
}

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
