// ranks: 2
// A head that is not linear has no column space: a step that measures it reports the reason, and the layers' gradients.
#include <gtest/gtest.h>

#include <memory>
#include <utility>

#include "model/heads/heads.h"
#include "tests/support/head_comparison.h"
#include "tests/support/part_checks.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

constexpr char kReason[] = "its logits are capped";

// The full head, which says of itself that it is not linear.
class CappedHead : public LmHead {
 public:
  explicit CappedHead(std::unique_ptr<LmHead> full) : full_(std::move(full)) {}

  void Declare(ParameterHandle embedding, ParameterBuilder& parameters) override {
    full_->Declare(embedding, parameters);
  }
  void Place(int64_t chunk, TensorPlacer& placer) override { full_->Place(chunk, placer); }
  void Bind(const ParameterStore& parameters, const TensorRegion& region, Stream& stream) override {
    full_->Bind(parameters, region, stream);
  }
  absl::Status Begin(const Tensor& hidden) override { return full_->Begin(hidden); }
  absl::Status Logits(const Tensor& hidden, int64_t begin, const Tensor& logits) override {
    return full_->Logits(hidden, begin, logits);
  }
  absl::Status Backward(const Tensor& hidden, int64_t begin, const Tensor& grad_logits, const Tensor& grad_hidden,
                        const Tensor& signal) override {
    EXPECT_FALSE(signal.defined());
    return full_->Backward(hidden, begin, grad_logits, grad_hidden, signal);
  }
  absl::Status Finish(const Tensor& hidden, const Tensor& grad_hidden) override {
    return full_->Finish(hidden, grad_hidden);
  }
  absl::StatusOr<HeadView> View() override { return HeadView{.not_linear = kReason}; }
  ParameterHandle parameter() const override { return full_->parameter(); }
  double ForwardFlopsPerToken() const override { return full_->ForwardFlopsPerToken(); }

 private:
  std::unique_ptr<LmHead> full_;
};

void RegisterCapped() {
  RegisterHead({.name = "capped", .make = [](const HeadRequest& request) -> std::unique_ptr<LmHead> {
                  return std::make_unique<CappedHead>(FindHead("full")->make(request));
                }});
}

TEST(NotLinearHead, LeavesItsFiguresOutWithTheReason) {
  RegisterCapped();
  for (const auto precision : {proto::PrecisionConfig::FP64, proto::PrecisionConfig::BF16}) {
    TinyOptions options;
    options.precision = precision;
    options.micro_batch = 4;
    Replica full(options);
    options.head_kind = "capped";
    Replica capped(options);
    for (int64_t step = 1; step <= 2; ++step) {
      const StepWithFigures expected = full.Step(step, /*measure_head=*/true);
      const StepWithFigures found = capped.Step(step, /*measure_head=*/true, /*last=*/step == 2);
      ASSERT_TRUE(expected.head.has_value() && found.head.has_value());
      EXPECT_EQ(found.loss, expected.loss);
      ExpectSameLayers(found.layers, expected.layers, 0);
      EXPECT_EQ(expected.head->not_measured, "");
      EXPECT_EQ(found.head->not_measured, kReason);
      EXPECT_FALSE(found.head->linear);
    }
  }
}

TEST(NotLinearHead, WorksEverywhere) {
  RegisterCapped();
  TinyOptions options = PartOptions();
  options.head_kind = "capped";
  CheckPart(options);
}

}  // namespace
}  // namespace isthmus::testing
