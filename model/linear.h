// This is a linear layer without bias: y = x Wᵀ. Column- and row-parallel layers differ in where their inputs and
// outputs cross the border of the tensor-parallel region (model/tensor_region.h), not in the products.
//
// With an Fp8Scratch the three products have quantised operands (ops/quantize.h). Activations and weights are fp8_e4m3,
// which is the more precise. Gradients are fp8_e5m2, which reaches further (Micikevicius et al. 2022, arXiv:2209.05433,
// section 3.1). Every operand is quantised when it is used, with the scale of this rank's part. Weights and gradients
// are kept as without an Fp8Scratch.
#ifndef ISTHMUS_MODEL_LINEAR_H_
#define ISTHMUS_MODEL_LINEAR_H_

#include <absl/status/status.h>
#include <absl/strings/string_view.h>
#include <absl/types/span.h>

#include <cstdint>

#include "model/part_setting.h"
#include "runtime/arena.h"
#include "runtime/config_rules.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

// This memory for the quantised operands is shared by the layers of a block. It holds nothing between their calls, but
// for the gradient that BackwardInput leaves for BackwardWeight. Sizes are those of the largest layer; N are the
// tokens.
struct Fp8Scratch {
  Tensor left;           // fp8 [1, N · max(in, out)]: x, grad_y, or xᵀ
  Tensor right;          // fp8 [1, max(in · out)]: W or Wᵀ
  Tensor gradient;       // fp8 [1, N · max(out)]: grad_yᵀ; only for training
  Tensor left_inverse;   // fp32 [1, 1]
  Tensor right_inverse;  // fp32 [1, 1]
  Tensor workspace;      // uint8, of the product
};

// These are the sizes of one layer's matrix.
struct LinearSize {
  int64_t out = 0, in = 0;
};
// Places the memory for layers of these sizes, of this rank's shards. Tensors are undefined if the setting has no 8-bit
// products.
Fp8Scratch PlaceFp8Scratch(const PartSetting& setting, absl::Span<const LinearSize> sizes, TensorPlacer& placer);

// Checks the rule of 8-bit products: `size`, of one side of a product on a rank, is a multiple of kFp8Multiple. `what`
// says in the message what the size is. `field` and `found` name what sets it.
void CheckFp8Size(absl::string_view field, int64_t found, int64_t size, absl::string_view what, ConfigRules& rules);

struct Linear {
  Tensor weight;                    // [out, in] compute type
  Tensor gradient;                  // [out, in] accumulation type
  const Fp8Scratch* fp8 = nullptr;  // where given, weight and activations are bf16; must outlive the layer

  // Computes y [N, out] = x [N, in] Wᵀ.
  absl::Status Forward(const Tensor& x, const Tensor& y, Stream& stream) const;
  // Computes grad_x [N, in] = grad_y [N, out] W.
  absl::Status BackwardInput(const Tensor& grad_y, const Tensor& grad_x, Stream& stream) const;
  // Adds grad_yᵀ x to `gradient`. Follows BackwardInput of the same grad_y before another layer's call.
  absl::Status BackwardWeight(const Tensor& grad_y, const Tensor& x, Stream& stream) const;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_LINEAR_H_
