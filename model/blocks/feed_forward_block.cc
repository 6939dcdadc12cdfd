#include "model/blocks/feed_forward_block.h"

#include "ops/swiglu.h"
#include "runtime/status.h"

namespace isthmus {

FeedForwardBlock::FeedForwardBlock(const BlockContext& context, const ParameterStore& parameters,
                                   const std::string& prefix)
    : context_(context),
      gate_up_(context, parameters, prefix + "feed_forward_norm.weight", prefix + "feed_forward.gate_proj.weight",
               2 * context.shard.feed_forward.size()) {
  const std::string down = prefix + "feed_forward.down_proj.weight";
  down_ = {parameters.Weight(down), parameters.Gradient(down), context.fp8()};
}

absl::Status FeedForwardBlock::ForwardSavedOnly(const Tensor& residual, const Tensor& addend,
                                                const FeedForwardSaved& saved) const {
  return gate_up_.Forward(residual, addend, {saved.x, saved.inverse}, saved.gate_up);
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
  return gate_up_.Backward(grad_gate_up, {saved.x, saved.inverse}, grad_stream);
}

}  // namespace isthmus
