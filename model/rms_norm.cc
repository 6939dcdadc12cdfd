// RMSNorm with its weight. One operator adds, normalises and scales.
#include "ops/rms_norm.h"

#include "model/norm.h"

namespace isthmus {
namespace {

class RmsNorm : public Norm {
 public:
  explicit RmsNorm(const NormRequest& request) : setting_(request.setting), name_(request.name) {}

  void Declare(ParameterBuilder& parameters) override {
    parameter_ = parameters.Add({.name = name_ + ".weight",
                                 .role = ParameterRole::kNorm,
                                 .rows = 1,
                                 .columns = setting_.width,
                                 .init_mean = 1,
                                 .decay = false,
                                 .gradient = GradientPart::kOfLocalTokens});
  }

  void Bind(const ParameterStore& parameters) override {
    weight_ = parameters.Weight(parameter_);
    gradient_ = parameters.Gradient(parameter_);
  }

  void Place(const std::string& prefix, TensorPlacer& placer) override {
    inverse_ = placer.Place(prefix + name_ + ".inverse", setting_.sum_type(), 1, setting_.local_tokens());
  }

  Tensor PlaceWorkspace(TensorPlacer& placer) const override {
    return placer.Place("scratch.norm", setting_.sum_type(), RmsNormWorkspaceRows(setting_.local_tokens()),
                        setting_.width);
  }

  absl::Status Forward(const Tensor& x, const Tensor& addend, const Tensor& sum, const Tensor& y,
                       Stream& stream) const override {
    return RmsNormForward({.x = x,
                           .addend = addend,
                           .sum = addend.defined() ? sum : Tensor(),
                           .weight = weight_,
                           .y = y,
                           .inverse = inverse_,
                           .epsilon = setting_.norm_epsilon},
                          stream);
  }

  absl::Status Backward(const Tensor& grad_y, const Tensor& x, const Tensor& grad_x, bool accumulate,
                        const Tensor& workspace, Stream& stream) const override {
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

  NamedTensor Saved() const override { return {name_ + ".inverse", inverse_}; }

 private:
  const PartSetting& setting_;
  const std::string name_;
  ParameterHandle parameter_;
  Tensor weight_, gradient_;  // [1, D]
  Tensor inverse_;            // [1, local tokens]
};

}  // namespace

NormKind RmsNormKind() {
  return {.name = "rms_norm", .make = [](const NormRequest& request) { return std::make_unique<RmsNorm>(request); }};
}

}  // namespace isthmus
