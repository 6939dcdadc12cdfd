// ranks: 1 2 3 4 6
// A block that is not the program's: it is this file and two registrations, of the block and of a family that has it.
//
//   a_t = λ a_{t-1} + (1 - λ) u_t,   y_t = (σ(g_t) a_t) Wᵀ,   (u, g) = projections of x_t,   λ = σ(p)
//
// Features are cut over the tensor ranks. It runs on the CPU, in fp64.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "model/blocks/blocks.h"
#include "model/families/family.h"
#include "model/linear.h"
#include "ops/cost.h"
#include "ops/operator.h"
#include "runtime/status.h"
#include "tests/support/part_checks.h"

namespace isthmus::testing {
namespace {

double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

class GatedAverage : public Block {
 public:
  explicit GatedAverage(const BlockRequest& request)
      : setting_(request.setting),
        name_(request.name),
        features_(request.config.feed_forward()),
        share_(setting_.Share(features_)) {}

  void Declare(ParameterBuilder& parameters) override {
    ParameterDeclaration in = {.name = name_ + ".u_proj.weight",
                               .role = ParameterRole::kMixer,
                               .rows = features_,
                               .columns = setting_.width,
                               .sharding = Sharding::kRows,
                               .shard = share_,
                               .init_std = setting_.init_std,
                               .multiplies = true};
    ParameterDeclaration gate = in, decay = in, out = in;
    gate.name = name_ + ".g_proj.weight";
    in_parameters_ = parameters.AddPacked({in, gate});
    decay.name = name_ + ".decay";
    decay.columns = 1;
    decay.decay = decay.multiplies = false;
    decay_parameter_ = parameters.Add(decay);
    out.name = name_ + ".o_proj.weight";
    std::swap(out.rows, out.columns);
    out.sharding = Sharding::kColumns;
    out.init_std = setting_.output_std();
    out_parameter_ = parameters.Add(out);
  }
  void Bind(const ParameterStore& parameters) override {
    in_ = {parameters.Weight(in_parameters_), parameters.Gradient(in_parameters_)};
    out_ = {parameters.Weight(out_parameter_), parameters.Gradient(out_parameter_)};
    decay_ = {parameters.Weight(decay_parameter_), parameters.Gradient(decay_parameter_)};
  }
  void PlaceSaved(const std::string& prefix, TensorPlacer& placer) override {
    const int64_t tokens = setting_.batch.tokens();
    ug_ = placer.Place(prefix + name_ + ".ug", setting_.type, tokens, 2 * share_.size());
    average_ = placer.Place(prefix + name_ + ".average", setting_.type, tokens, share_.size());
  }
  void PlaceScratch(TensorPlacer& placer) override {
    const int64_t tokens = setting_.batch.tokens();
    gated_ = placer.Place("scratch.gated", setting_.type, tokens, share_.size());
    if (!setting_.training) return;
    grad_gated_ = placer.Place("scratch.grad_gated", setting_.type, tokens, share_.size());
    grad_ug_ = placer.Place("scratch.grad_ug", setting_.type, tokens, 2 * share_.size());
  }

  absl::Status Forward(const Tensor& x, const Tensor& y, Stream& stream) override {
    ISTHMUS_RETURN_IF_ERROR(in_.Forward(x, ug_, stream));
    ISTHMUS_RETURN_IF_ERROR(DispatchOwn(MemoryPass("moving average", {ug_, average_}), stream, [&] {
      ForEach([&](int64_t f, int64_t n, bool first) {
        const double decay = Sigmoid(At(decay_.weight, f, 0));
        At(average_, n, f) = (first ? 0 : decay * At(average_, n - 1, f)) + (1 - decay) * At(ug_, n, f);
      });
    }));
    ISTHMUS_RETURN_IF_ERROR(Gate(stream));
    return y.defined() ? out_.Forward(gated_, y, stream) : absl::OkStatus();
  }

  absl::Status Backward(const Tensor& grad_y, const Tensor& /*x*/, const Tensor& grad_x, Stream& stream) override {
    ISTHMUS_RETURN_IF_ERROR(Gate(stream));
    ISTHMUS_RETURN_IF_ERROR(out_.BackwardInput(grad_y, grad_gated_, stream));
    ISTHMUS_RETURN_IF_ERROR(out_.BackwardWeight(grad_y, gated_, stream));
    ISTHMUS_RETURN_IF_ERROR(DispatchOwn(MemoryPass("moving average backward", {ug_, average_, grad_gated_, grad_ug_}),
                                        stream, [&] { AverageBackward(); }));
    return in_.BackwardInput(grad_ug_, grad_x, stream);
  }
  absl::Status BackwardWeights(const Tensor& x, Stream& stream) override {
    return in_.BackwardWeight(grad_ug_, x, stream);
  }
  std::vector<NamedTensor> Saved() const override { return {{name_ + ".ug", ug_}, {name_ + ".average", average_}}; }

 private:
  void AverageBackward() const {
    const int64_t length = setting_.batch.sequence_length;
    for (int64_t f = 0; f < share_.size(); ++f) {
      const double decay = Sigmoid(At(decay_.weight, f, 0));
      for (int64_t s = 0; s < setting_.batch.sequences; ++s) {
        double grad_average = 0;
        for (int64_t n = (s + 1) * length - 1; n >= s * length; --n) {
          const double gate = Sigmoid(At(ug_, n, share_.size() + f)),
                       before = n == s * length ? 0 : At(average_, n - 1, f);
          grad_average = decay * grad_average + At(grad_gated_, n, f) * gate;
          At(grad_ug_, n, share_.size() + f) = At(grad_gated_, n, f) * At(average_, n, f) * gate * (1 - gate);
          At(grad_ug_, n, f) = grad_average * (1 - decay);
          At(decay_.gradient, f, 0) += grad_average * (before - At(ug_, n, f)) * decay * (1 - decay);
        }
      }
    }
  }
  static double& At(const Tensor& tensor, int64_t row, int64_t column) { return tensor.Row<double>(row)[column]; }
  // Calls visit(feature, token, whether a sequence begins), each sequence in order.
  template <typename Visit>
  void ForEach(const Visit& visit) const {
    for (int64_t f = 0; f < share_.size(); ++f) {
      for (int64_t n = 0; n < setting_.batch.tokens(); ++n) visit(f, n, n % setting_.batch.sequence_length == 0);
    }
  }
  absl::Status Gate(Stream& stream) const {
    return DispatchOwn(MemoryPass("gate", {ug_, average_, gated_}), stream, [&] {
      ForEach([&](int64_t f, int64_t n, bool) {
        At(gated_, n, f) = Sigmoid(At(ug_, n, share_.size() + f)) * At(average_, n, f);
      });
    });
  }

  const PartSetting& setting_;
  const std::string name_;
  const int64_t features_;
  const Range share_;
  ParameterHandle in_parameters_, decay_parameter_, out_parameter_;
  Linear in_, out_, decay_;  // decay_: p [F_i, 1]
  Tensor ug_, average_;      // kept
  Tensor gated_, grad_gated_, grad_ug_;
};

// Layers differ: the first has attention, the second the average.
std::vector<BlockSlot> BlocksOf(const proto::ModelConfig&, int64_t layer) {
  return {layer == 0 ? BlockSlot{"attention", "attention"} : BlockSlot{"gated-average", "average"},
          {"swiglu", "feed_forward"}};
}

TEST(AddedBlock, WorksEverywhere) {
  RegisterBlock({.name = "gated-average",
                 .make = [](const BlockRequest& request) { return std::make_unique<GatedAverage>(request); }});
  RegisterFamily({.name = "averaging", .blocks = BlocksOf});
  TinyOptions options = PartOptions();
  options.family = "averaging";
  CheckPart(options);
}

}  // namespace
}  // namespace isthmus::testing
