#include "model/feed_forward_block.h"

#include "ops/rms_norm.h"
#include "ops/swiglu.h"
#include "runtime/status.h"

namespace isthmus {

FeedForwardBlock::FeedForwardBlock(const BlockContext& context, const ParameterStore& parameters,
                                   const std::string& prefix)
    : context_(context),
      norm_weight_(parameters.Weight(prefix + "feed_forward_norm.weight")),
      norm_gradient_(parameters.Gradient(prefix + "feed_forward_norm.weight")) {
  const std::string gate = prefix + "feed_forward.gate_proj.weight", down = prefix + "feed_forward.down_proj.weight";
  const int64_t rows = 2 * context.shard.feed_forward.size();
  gate_up_ = {parameters.PackedWeight(gate, rows), parameters.PackedGradient(gate, rows)};
  down_ = {parameters.Weight(down), parameters.Gradient(down)};
}

absl::Status FeedForwardBlock::ForwardSavedOnly(const Tensor& residual, const Tensor& addend,
                                                const FeedForwardSaved& saved) const {
  const Tensor normed = context_.region.LocalPart(context_.scratch.normed);
  ISTHMUS_RETURN_IF_ERROR(RmsNormForward({.x = residual,
                                          .addend = addend,
                                          .sum = addend.defined() ? saved.x : Tensor(),
                                          .weight = norm_weight_,
                                          .y = normed,
                                          .inverse = saved.inverse,
                                          .epsilon = context_.shape.norm_epsilon},
                                         *context_.stream));
  ISTHMUS_RETURN_IF_ERROR(context_.region.Enter(normed, context_.scratch.normed));
  return gate_up_.Forward(context_.scratch.normed, saved.gate_up, *context_.stream);
}

absl::Status FeedForwardBlock::Forward(const Tensor& residual, const Tensor& addend,
                                       const FeedForwardSaved& saved) const {
  ISTHMUS_RETURN_IF_ERROR(ForwardSavedOnly(residual, addend, saved));
  const BlockScratch& scratch = context_.scratch;
  const Tensor activation(scratch.narrow.data, context_.type, context_.batch.tokens(),
                          context_.shard.feed_forward.size());
  ISTHMUS_RETURN_IF_ERROR(SwigluForward({.gate_up = saved.gate_up, .y = activation}, *context_.stream));
  ISTHMUS_RETURN_IF_ERROR(down_.Forward(activation, scratch.branch, *context_.stream));
  return context_.region.Leave(scratch.branch, context_.region.LocalPart(scratch.branch));
}

absl::Status FeedForwardBlock::Backward(const Tensor& grad_stream, const FeedForwardSaved& saved) const {
  const BlockScratch& scratch = context_.scratch;
  const TensorRegion& region = context_.region;
  Stream& stream = *context_.stream;
  const int64_t tokens = context_.batch.tokens(), features = context_.shard.feed_forward.size();

  const Tensor grad_branch = region.sequence_parallel() ? scratch.grad_full : grad_stream;
  ISTHMUS_RETURN_IF_ERROR(region.Enter(grad_stream, grad_branch));
  const Tensor grad_activation(scratch.narrow.data, context_.type, tokens, features);
  const Tensor activation(scratch.narrow2.data, context_.type, tokens, features);
  ISTHMUS_RETURN_IF_ERROR(down_.BackwardInput(grad_branch, grad_activation, stream));
  const Tensor grad_gate_up = saved.gate_up;
  ISTHMUS_RETURN_IF_ERROR(SwigluBackward(
      {.grad_y = grad_activation, .gate_up = saved.gate_up, .grad_gate_up = grad_gate_up, .y = activation}, stream));
  ISTHMUS_RETURN_IF_ERROR(down_.BackwardWeight(grad_branch, activation, stream));

  // Made again rather than kept, as in AttentionBlock::Backward.
  const Tensor normed = region.LocalPart(scratch.normed);
  ISTHMUS_RETURN_IF_ERROR(RmsNormForward({.x = saved.x,
                                          .weight = norm_weight_,
                                          .y = normed,
                                          .inverse = saved.inverse,
                                          .epsilon = context_.shape.norm_epsilon},
                                         stream));
  ISTHMUS_RETURN_IF_ERROR(region.Enter(normed, scratch.normed));
  ISTHMUS_RETURN_IF_ERROR(gate_up_.BackwardInput(grad_gate_up, scratch.branch, stream));
  const Tensor grad_normed = region.LocalPart(scratch.branch);
  ISTHMUS_ASSIGN_OR_RETURN(const Ticket ticket, region.StartLeave(scratch.branch, grad_normed));
  ISTHMUS_RETURN_IF_ERROR(gate_up_.BackwardWeight(grad_gate_up, scratch.normed, stream));
  ISTHMUS_RETURN_IF_ERROR(region.Wait(ticket));
  return RmsNormBackward({.grad_y = grad_normed,
                          .x = saved.x,
                          .weight = norm_weight_,
                          .inverse = saved.inverse,
                          .grad_x = grad_stream,
                          .grad_weight = norm_gradient_,
                          .workspace = scratch.norm_workspace},
                         stream);
}

}  // namespace isthmus
