#include "model/blocks/normed_linear.h"

#include "ops/rms_norm.h"
#include "runtime/status.h"

namespace isthmus {

NormedLinear::NormedLinear(const BlockContext& context, const ParameterStore& parameters, const std::string& norm,
                           const std::string& first, int64_t rows)
    : context_(context),
      norm_weight_(parameters.Weight(norm)),
      norm_gradient_(parameters.Gradient(norm)),
      projection_{parameters.PackedWeight(first, rows), parameters.PackedGradient(first, rows), context.fp8()} {}

absl::Status NormedLinear::Norm(const Tensor& residual, const Tensor& addend, const Saved& saved) const {
  const Tensor normed = context_.region.LocalPart(context_.scratch.normed);
  ISTHMUS_RETURN_IF_ERROR(RmsNormForward({.x = residual,
                                          .addend = addend,
                                          .sum = addend.defined() ? saved.x : Tensor(),
                                          .weight = norm_weight_,
                                          .y = normed,
                                          .inverse = saved.inverse,
                                          .epsilon = context_.shape.norm_epsilon},
                                         *context_.stream));
  return context_.region.Enter(normed, context_.scratch.normed);
}

absl::Status NormedLinear::Forward(const Tensor& residual, const Tensor& addend, const Saved& saved,
                                   const Tensor& output) const {
  ISTHMUS_RETURN_IF_ERROR(Norm(residual, addend, saved));
  return projection_.Forward(context_.scratch.normed, output, *context_.stream);
}

absl::Status NormedLinear::Backward(const Tensor& grad_output, const Saved& saved, const Tensor& grad_stream) const {
  const BlockScratch& scratch = context_.scratch;
  const TensorRegion& region = context_.region;
  Stream& stream = *context_.stream;
  // The normalised input is made again rather than kept: it costs one pass over memory, and N·D elements less per
  // layer.
  ISTHMUS_RETURN_IF_ERROR(Norm(saved.x, Tensor(), saved));
  ISTHMUS_RETURN_IF_ERROR(projection_.BackwardInput(grad_output, scratch.branch, stream));
  // The weight gradient is computed while the input gradient travels.
  const Tensor grad_normed = region.LocalPart(scratch.branch);
  ISTHMUS_ASSIGN_OR_RETURN(const Ticket ticket, region.StartLeave(scratch.branch, grad_normed));
  ISTHMUS_RETURN_IF_ERROR(projection_.BackwardWeight(grad_output, scratch.normed, stream));
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
