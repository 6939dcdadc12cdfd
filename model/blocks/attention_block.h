// The attention half of a decoder layer: RMSNorm, query, key and value projections, rotary positions, causal
// grouped-query attention, output projection (Llama 2, arXiv:2307.09288, section 2.2).
#ifndef ISTHMUS_MODEL_BLOCKS_ATTENTION_BLOCK_H_
#define ISTHMUS_MODEL_BLOCKS_ATTENTION_BLOCK_H_

#include <absl/status/status.h>

#include <string>

#include "model/blocks/block_context.h"
#include "model/blocks/normed_linear.h"
#include "model/linear.h"
#include "model/parameters.h"
#include "ops/attention.h"

namespace isthmus {

// What the forward pass keeps for the backward pass.
struct AttentionSaved {
  Tensor x;            // [local tokens, D] the residual stream at the block's entrance
  Tensor inverse;      // [1, local tokens] of the norm
  Tensor qkv;          // [N, (H_i + 2 K_i) head_dim] after the rotation
  Tensor out;          // [N, H_i head_dim]
  Tensor log_sum_exp;  // [B, H_i T]
};

class AttentionBlock {
 public:
  // `prefix`: "layers.3.". `context` and `parameters` must outlive the block.
  AttentionBlock(const BlockContext& context, const ParameterStore& parameters, const std::string& prefix);

  // saved.x = residual + addend (saved.x must be `residual` itself when addend is undefined); the block's output, still
  // to be added to saved.x, is left in the local part of context.scratch.branch. `addend` may be that same memory.
  absl::Status Forward(const Tensor& residual, const Tensor& addend, const AttentionSaved& saved) const;

  // grad_stream [local tokens, D]: gradient of saved.x + output on entry, of saved.x on return.
  absl::Status Backward(const Tensor& grad_stream, const AttentionSaved& saved) const;

 private:
  AttentionShape Shape() const;

  const BlockContext& context_;
  NormedLinear qkv_;
  Linear out_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_BLOCKS_ATTENTION_BLOCK_H_
