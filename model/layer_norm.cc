// LayerNorm with its weight and bias. One operator adds, normalises, scales and shifts.
#include "ops/layer_norm.h"

#include "model/norm.h"

namespace isthmus {
namespace {

class LayerNorm : public Norm {
 public:
  explicit LayerNorm(const NormRequest& request) : setting_(request.setting), name_(request.name) {}

  void Declare(ParameterBuilder& parameters) override {
    ParameterDeclaration declared = {.name = name_ + ".weight",
                                     .role = ParameterRole::kNorm,
                                     .rows = 1,
                                     .columns = setting_.width,
                                     .init_mean = 1,
                                     .decay = false,
                                     .gradient = GradientPart::kOfLocalTokens};
    weight_parameter_ = parameters.Add(declared);
    declared.name = name_ + ".bias";
    declared.init_mean = 0;
    bias_parameter_ = parameters.Add(declared);
  }

  void Bind(const ParameterStore& parameters) override {
    weight_ = parameters.Weight(weight_parameter_);
    bias_ = parameters.Weight(bias_parameter_);
    grad_weight_ = parameters.Gradient(weight_parameter_);
    grad_bias_ = parameters.Gradient(bias_parameter_);
  }

  void Place(const std::string& prefix, TensorPlacer& placer) override {
    statistics_ = placer.Place(prefix + name_ + ".statistics", setting_.sum_type(), 2, setting_.local_tokens());
  }

  Tensor PlaceWorkspace(TensorPlacer& placer) const override {
    return placer.Place("scratch.norm", setting_.sum_type(), LayerNormWorkspaceRows(setting_.local_tokens()),
                        setting_.width);
  }

  absl::Status Forward(const Tensor& x, const Tensor& addend, const Tensor& sum, const Tensor& y,
                       Stream& stream) const override {
    return LayerNormForward({.x = x,
                             .addend = addend,
                             .sum = addend.defined() ? sum : Tensor(),
                             .weight = weight_,
                             .bias = bias_,
                             .y = y,
                             .statistics = statistics_,
                             .epsilon = setting_.norm_epsilon},
                            stream);
  }

  absl::Status Backward(const Tensor& grad_y, const Tensor& x, const Tensor& grad_x, bool accumulate,
                        const Tensor& workspace, Stream& stream) const override {
    return LayerNormBackward({.grad_y = grad_y,
                              .x = x,
                              .weight = weight_,
                              .statistics = statistics_,
                              .grad_x = grad_x,
                              .grad_weight = grad_weight_,
                              .grad_bias = grad_bias_,
                              .workspace = workspace,
                              .accumulate = accumulate},
                             stream);
  }

  NamedTensor Saved() const override { return {name_ + ".statistics", statistics_}; }

 private:
  const PartSetting& setting_;
  const std::string name_;
  ParameterHandle weight_parameter_, bias_parameter_;
  Tensor weight_, bias_, grad_weight_, grad_bias_;  // [1, D]
  Tensor statistics_;                               // [2, local tokens]
};

}  // namespace

NormKind LayerNormKind() {
  return {.name = "layer_norm",
          .make = [](const NormRequest& request) { return std::make_unique<LayerNorm>(request); }};
}

}  // namespace isthmus
