// This block is the gated feed-forward network: gate and up projections, SwiGLU, down projection (Shazeer 2020,
// arXiv:2002.05202). Features are cut over the tensor ranks.
#include "ops/swiglu.h"

#include <absl/strings/str_cat.h>

#include "model/blocks/blocks.h"
#include "model/linear.h"
#include "runtime/config_rules.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

class Swiglu : public Block {
 public:
  explicit Swiglu(const BlockRequest& request)
      : setting_(request.setting),
        name_(request.name),
        features_(request.config.feed_forward()),
        local_features_(setting_.Share(features_)) {}

  void Declare(ParameterBuilder& parameters) override {
    const auto rows = [&](const char* projection) {
      return ParameterDeclaration{.name = absl::StrCat(name_, ".", projection, "_proj.weight"),
                                  .role = ParameterRole::kFeedForward,
                                  .rows = features_,
                                  .columns = setting_.width,
                                  .sharding = Sharding::kRows,
                                  .shard = local_features_,
                                  .init_std = setting_.init_std,
                                  .multiplies = true};
    };
    gate_up_parameters_ = parameters.AddPacked({rows("gate"), rows("up")});
    ParameterDeclaration down = rows("down");
    std::swap(down.rows, down.columns);
    down.sharding = Sharding::kColumns;
    down.init_std = setting_.output_std();
    down_parameter_ = parameters.Add(down);
  }

  void Bind(const ParameterStore& parameters) override {
    const Fp8Scratch* fp8 = setting_.fp8 ? &fp8_ : nullptr;
    gate_up_projection_ = {parameters.Weight(gate_up_parameters_), parameters.Gradient(gate_up_parameters_), fp8};
    down_projection_ = {parameters.Weight(down_parameter_), parameters.Gradient(down_parameter_), fp8};
  }

  void PlaceSaved(const std::string& prefix, TensorPlacer& placer) override {
    gate_up_ = placer.Place(absl::StrCat(prefix, name_, ".gate_up"), setting_.type, setting_.batch.tokens(),
                            2 * local_features_.size());
  }

  void PlaceScratch(TensorPlacer& placer) override {
    const int64_t tokens = setting_.batch.tokens(), features = local_features_.size();
    activation_ = placer.Place("scratch.activation", setting_.type, tokens, features);
    fp8_ = PlaceFp8Scratch(setting_, {{2 * features, setting_.width}, {setting_.width, features}}, placer);
    if (setting_.training) {
      grad_activation_ = placer.Place("scratch.grad_activation", setting_.type, tokens, features);
    }
  }

  absl::Status Forward(const Tensor& x, const Tensor& y, Stream& stream) override {
    ISTHMUS_RETURN_IF_ERROR(gate_up_projection_.Forward(x, gate_up_, stream));
    if (!y.defined()) return absl::OkStatus();
    ISTHMUS_RETURN_IF_ERROR(SwigluForward({.gate_up = gate_up_, .y = activation_}, stream));
    return down_projection_.Forward(activation_, y, stream);
  }

  absl::Status Backward(const Tensor& grad_y, const Tensor& /*x*/, const Tensor& grad_x, Stream& stream) override {
    ISTHMUS_RETURN_IF_ERROR(down_projection_.BackwardInput(grad_y, grad_activation_, stream));
    ISTHMUS_RETURN_IF_ERROR(SwigluBackward(
        {.grad_y = grad_activation_, .gate_up = gate_up_, .grad_gate_up = gate_up_, .y = activation_}, stream));
    ISTHMUS_RETURN_IF_ERROR(down_projection_.BackwardWeight(grad_y, activation_, stream));
    return gate_up_projection_.BackwardInput(gate_up_, grad_x, stream);
  }

  absl::Status BackwardWeights(const Tensor& x, Stream& stream) override {
    return gate_up_projection_.BackwardWeight(gate_up_, x, stream);
  }

  // The backward pass overwrites what it keeps.
  std::vector<NamedTensor> Saved() const override { return {}; }

 private:
  const PartSetting& setting_;
  const std::string name_;
  const int64_t features_;
  const Range local_features_;
  ParameterHandle gate_up_parameters_, down_parameter_;
  Linear gate_up_projection_, down_projection_;
  Tensor gate_up_;  // kept: [N, 2 F_i]; then its gradient
  Tensor activation_, grad_activation_;
  Fp8Scratch fp8_;
};

ConfigFactor ResolveSwiglu(const BlockConfig& block, ConfigRules& rules) {
  proto::ModelConfig& model = block.model;
  rules.Within(0, ConfigRules::kMostFeatures, "model.feed_forward", model.feed_forward());
  if (!rules.status().ok()) return {};
  // The width gives as many parameters as a network without a gate of 4 D features has.
  if (model.feed_forward() == 0) model.set_feed_forward((model.width() * 8 / 3 + 63) / 64 * 64);
  rules.DivisibleByTensor("model.feed_forward", model.feed_forward(), block.tensor_ranks);
  if (block.fp8) {
    CheckFp8Size("model.feed_forward", model.feed_forward(), model.feed_forward() / block.tensor_ranks,
                 "model.feed_forward / mesh.tensor", rules);
  }
  return {"model.feed_forward", model.feed_forward()};
}

}  // namespace

BlockKind SwigluKind() {
  return {.name = "swiglu",
          .make = [](const BlockRequest& request) { return std::make_unique<Swiglu>(request); },
          .resolve = ResolveSwiglu};
}

}  // namespace isthmus
