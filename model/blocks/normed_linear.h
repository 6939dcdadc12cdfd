// The entrance of a block: residual addition, RMSNorm, the border of the tensor-parallel region, and the block's first
// projection, column-parallel. Shared by attention and feed-forward.
#ifndef ISTHMUS_MODEL_BLOCKS_NORMED_LINEAR_H_
#define ISTHMUS_MODEL_BLOCKS_NORMED_LINEAR_H_

#include <absl/status/status.h>

#include <string>

#include "model/blocks/block_context.h"
#include "model/linear.h"
#include "model/parameters.h"

namespace isthmus {

class NormedLinear {
 public:
  // What the forward pass keeps for the backward pass.
  struct Saved {
    Tensor x;        // [local tokens, D] the residual stream at the entrance
    Tensor inverse;  // [1, local tokens] of the norm
  };

  // `norm`: the norm's parameter. `first`: the first of the projection's, which lie packed, `rows` rows in all.
  // `context` and `parameters` must outlive the object.
  NormedLinear(const BlockContext& context, const ParameterStore& parameters, const std::string& norm,
               const std::string& first, int64_t rows);

  // saved.x = residual + addend (it must be `residual` itself when addend is undefined), output [N, rows] = its norm
  // times the projection. `addend` may be the local part of context.scratch.branch.
  absl::Status Forward(const Tensor& residual, const Tensor& addend, const Saved& saved, const Tensor& output) const;

  // From grad_output [N, rows]: gradients of the projection and the norm; that of saved.x is added to grad_stream
  // [local tokens, D]. Uses context.scratch.normed, branch and norm_workspace.
  absl::Status Backward(const Tensor& grad_output, const Saved& saved, const Tensor& grad_stream) const;

 private:
  // The whole group's normalised input in context.scratch.normed.
  absl::Status Norm(const Tensor& residual, const Tensor& addend, const Saved& saved) const;

  const BlockContext& context_;
  Tensor norm_weight_, norm_gradient_;
  Linear projection_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_BLOCKS_NORMED_LINEAR_H_
