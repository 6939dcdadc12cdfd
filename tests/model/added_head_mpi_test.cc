// ranks: 1 2 3 4 6
// A head that is not the program's: it is this file and one registration.
//
//   logits = (h Wᵀ) diag(s)        W [V, D] and s [V, 1] cut by rows
//
// Its decomposition is that of U = diag(s) W. It runs on the CPU, in fp64.
#include <gtest/gtest.h>

#include <memory>

#include "model/heads/heads.h"
#include "model/heads/vocabulary_product.h"
#include "ops/cost.h"
#include "ops/elementwise.h"
#include "ops/operator.h"
#include "runtime/status.h"
#include "tests/support/part_checks.h"

namespace isthmus::testing {
namespace {

class RowScaledHead : public LmHead {
 public:
  // `fault` makes the gradient of s wrong by that share.
  explicit RowScaledHead(const PartSetting& setting, double fault = 0) : setting_(setting), fault_(fault) {}

  void Declare(ParameterHandle /*embedding*/, ParameterBuilder& parameters) override {
    ParameterDeclaration weight = {.name = "head.weight",
                                   .role = ParameterRole::kHead,
                                   .rows = setting_.vocabulary,
                                   .columns = setting_.width,
                                   .sharding = Sharding::kRows,
                                   .shard = setting_.Share(setting_.vocabulary),
                                   .init_std = setting_.init_std};
    weight_ = parameters.Add(weight);
    weight.name = "head.scale";
    weight.columns = 1;
    weight.init_mean = 1;
    weight.init_std = 0;
    weight.decay = false;
    scale_ = parameters.Add(weight);
  }

  void Place(int64_t /*chunk*/, TensorPlacer& placer) override {
    const int64_t rows = setting_.Share(setting_.vocabulary).size();
    scaled_ = placer.Place("head.scaled", setting_.type, rows, setting_.width);
    if (setting_.training) {
      scaled_gradient_ = placer.Place("head.scaled_gradient", setting_.sum_type(), rows, setting_.width);
    }
  }

  void Bind(const ParameterStore& parameters, const TensorRegion& region, Stream& stream) override {
    parameters_ = &parameters;
    region_ = &region;
    stream_ = &stream;
    product_ = {scaled_, scaled_gradient_};
  }

  absl::Status Begin(const Tensor& /*hidden*/) override {
    ISTHMUS_RETURN_IF_ERROR(Scale());
    return scaled_gradient_.defined() ? SetZero({.x = scaled_gradient_}, *stream_) : absl::OkStatus();
  }
  absl::Status Logits(const Tensor& hidden, int64_t begin, const Tensor& logits) override {
    return product_.Forward(hidden.RowSlice(begin, logits.rows), logits, *stream_);
  }
  absl::Status Backward(const Tensor& hidden, int64_t begin, const Tensor& grad_logits, const Tensor& grad_hidden,
                        const Tensor& /*signal*/) override {
    const int64_t tokens = grad_logits.rows;
    ISTHMUS_RETURN_IF_ERROR(product_.BackwardInput(grad_logits, grad_hidden.RowSlice(begin, tokens), *stream_));
    return product_.BackwardWeight(grad_logits, hidden.RowSlice(begin, tokens), *stream_);
  }
  absl::Status Finish(const Tensor& /*hidden*/, const Tensor& grad_hidden) override {
    const Tensor weight = parameters_->Weight(weight_), scale = parameters_->Weight(scale_);
    const Tensor grad_weight = parameters_->Gradient(weight_), grad_scale = parameters_->Gradient(scale_);
    const OperatorCost cost = MemoryPass("row scaling backward", {weight, scaled_gradient_, grad_weight, grad_weight});
    ISTHMUS_RETURN_IF_ERROR(DispatchOwn(cost, *stream_, [&] {
      for (int64_t i = 0; i < weight.size(); ++i) {
        const int64_t row = i / weight.columns;
        At(grad_weight, i) += At(scaled_gradient_, i) * At(scale, row);
        At(grad_scale, row) += (1 + fault_) * At(scaled_gradient_, i) * At(weight, i);
      }
    }));
    signal_ = region_->LocalPart(grad_hidden);
    return region_->Leave(grad_hidden, signal_);
  }

  // The gradient of U is that of W with the scale taken out again, once it is summed over the data ranks.
  absl::StatusOr<HeadView> View() override {
    ISTHMUS_RETURN_IF_ERROR(Scale());
    const Tensor scale = parameters_->Weight(scale_), gradient = parameters_->Gradient(weight_);
    ISTHMUS_RETURN_IF_ERROR(DispatchOwn(MemoryPass("row scaling", {gradient, scaled_gradient_}), *stream_, [&] {
      for (int64_t i = 0; i < gradient.size(); ++i) {
        At(scaled_gradient_, i) = At(gradient, i) / At(scale, i / gradient.columns);
      }
    }));
    return HeadView{.rows = setting_.Share(setting_.vocabulary),
                    .weight = scaled_,
                    .gradient = scaled_gradient_,
                    .signal = signal_,
                    .signal_is_local = region_->sequence_parallel()};
  }
  ParameterHandle parameter() const override { return weight_; }
  double ForwardFlopsPerToken() const override {
    return 2 * static_cast<double>(setting_.vocabulary * (setting_.width + 1));
  }

 private:
  static double& At(const Tensor& tensor, int64_t i) { return tensor.As<double>()[i]; }
  // U = diag(s) W.
  absl::Status Scale() {
    const Tensor weight = parameters_->Weight(weight_), scale = parameters_->Weight(scale_);
    return DispatchOwn(MemoryPass("row scaling", {weight, scaled_}), *stream_, [&] {
      for (int64_t i = 0; i < weight.size(); ++i) At(scaled_, i) = At(weight, i) * At(scale, i / weight.columns);
    });
  }

  const PartSetting& setting_;
  const double fault_;
  ParameterHandle weight_, scale_;
  const ParameterStore* parameters_ = nullptr;
  const TensorRegion* region_ = nullptr;
  Stream* stream_ = nullptr;
  Linear product_;                   // with U
  Tensor scaled_, scaled_gradient_;  // U and its gradient over the micro-batch
  Tensor signal_;
};

TEST(AddedHead, WorksEverywhere) {
  RegisterHead({.name = "row-scaled",
                .make = [](const HeadRequest& request) { return std::make_unique<RowScaledHead>(request.setting); }});
  TinyOptions options = PartOptions();
  options.head_kind = "row-scaled";
  CheckPart(options);
}

TEST(AddedHead, AWrongGradientIsNoticed) {
  RegisterHead({.name = "wrong", .make = [](const HeadRequest& request) {
                  return std::make_unique<RowScaledHead>(request.setting, /*fault=*/0.01);
                }});
  TinyOptions options = PartOptions();
  options.head_kind = "wrong";
  EXPECT_GT(WorstGradientError(options), 1e-3);
}

}  // namespace
}  // namespace isthmus::testing
