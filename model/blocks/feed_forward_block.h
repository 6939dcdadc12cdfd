// The feed-forward half of a decoder layer: RMSNorm, gate and up projections, SwiGLU, down projection (Shazeer 2020,
// arXiv:2002.05202).
#ifndef ISTHMUS_MODEL_BLOCKS_FEED_FORWARD_BLOCK_H_
#define ISTHMUS_MODEL_BLOCKS_FEED_FORWARD_BLOCK_H_

#include <absl/status/status.h>

#include <string>

#include "model/blocks/block_context.h"
#include "model/blocks/normed_linear.h"
#include "model/linear.h"
#include "model/parameters.h"

namespace isthmus {

// What the forward pass keeps for the backward pass.
struct FeedForwardSaved {
  Tensor x;        // [local tokens, D] the residual stream at the block's entrance
  Tensor inverse;  // [1, local tokens] of the norm
  Tensor gate_up;  // [N, 2 F_i]; the backward pass overwrites it
};

class FeedForwardBlock {
 public:
  // `prefix`: "layers.3.". `context` and `parameters` must outlive the block.
  FeedForwardBlock(const BlockContext& context, const ParameterStore& parameters, const std::string& prefix);

  // As AttentionBlock::Forward.
  absl::Status Forward(const Tensor& residual, const Tensor& addend, const FeedForwardSaved& saved) const;
  // Only what Backward needs: fills `saved` and leaves no output.
  absl::Status ForwardSavedOnly(const Tensor& residual, const Tensor& addend, const FeedForwardSaved& saved) const;
  // As AttentionBlock::Backward.
  absl::Status Backward(const Tensor& grad_stream, const FeedForwardSaved& saved) const;

 private:
  const BlockContext& context_;
  NormedLinear gate_up_;
  Linear down_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_BLOCKS_FEED_FORWARD_BLOCK_H_
