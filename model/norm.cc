#include "model/norm.h"

#include "ops/rms_norm.h"

namespace isthmus {

void Norm::Declare(ParameterBuilder& parameters) {
  parameter_ = parameters.Add({.name = name_ + ".weight",
                               .role = ParameterRole::kNorm,
                               .rows = 1,
                               .columns = setting_->width,
                               .decay = false,
                               .gradient = GradientPart::kOfLocalTokens});
}

void Norm::Bind(const ParameterStore& parameters) {
  weight_ = parameters.Weight(parameter_);
  gradient_ = parameters.Gradient(parameter_);
}

void Norm::Place(const std::string& prefix, TensorPlacer& placer) {
  inverse_ = placer.Place(prefix + name_ + ".inverse", setting_->sum_type(), 1, setting_->local_tokens());
}

Tensor Norm::PlaceWorkspace(const PartSetting& setting, TensorPlacer& placer) {
  return placer.Place("scratch.norm", setting.sum_type(), RmsNormWorkspaceRows(setting.local_tokens()), setting.width);
}

absl::Status Norm::Forward(const Tensor& x, const Tensor& addend, const Tensor& sum, const Tensor& y,
                           Stream& stream) const {
  return RmsNormForward({.x = x,
                         .addend = addend,
                         .sum = addend.defined() ? sum : Tensor(),
                         .weight = weight_,
                         .y = y,
                         .inverse = inverse_,
                         .epsilon = setting_->norm_epsilon},
                        stream);
}

absl::Status Norm::Backward(const Tensor& grad_y, const Tensor& x, const Tensor& grad_x, bool accumulate,
                            const Tensor& workspace, Stream& stream) const {
  return RmsNormBackward({.grad_y = grad_y,
                          .x = x,
                          .weight = weight_,
                          .inverse = inverse_,
                          .grad_x = grad_x,
                          .grad_weight = gradient_,
                          .workspace = workspace,
                          .accumulate = accumulate},
                         stream);
}

}  // namespace isthmus
