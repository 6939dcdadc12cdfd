// ranks: 1 2 6
// The head of the page "Add a head in one file" (model/heads/README.md), which a test compares with these lines.
#include <gtest/gtest.h>

#include <memory>

#include "tests/support/part_checks.h"

// The page begins here.
#include "model/heads/heads.h"
#include "model/heads/vocabulary_product.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

// logits = h Wᵀ, where each rank has some rows of W.
class SmallestHead : public LmHead {
 public:
  explicit SmallestHead(const PartSetting& setting) : setting_(setting), product_(setting, setting.width) {}

  void Declare(ParameterHandle /*embedding*/, ParameterBuilder& parameters) override {
    weight_ = parameters.Add({.name = "head.weight",
                              .role = ParameterRole::kHead,
                              .rows = setting_.vocabulary,
                              .columns = setting_.width,
                              .sharding = Sharding::kRows,
                              .shard = setting_.Share(setting_.vocabulary),
                              .init_std = setting_.init_std});
  }
  void Place(int64_t chunk, TensorPlacer& placer) override { product_.Place(chunk, placer); }
  void Bind(const ParameterStore& parameters, const TensorRegion& region, Stream& stream) override {
    product_.Bind(parameters, weight_);
    region_ = &region;
    stream_ = &stream;
  }

  absl::Status Begin(const Tensor& /*hidden*/) override { return absl::OkStatus(); }
  absl::Status Logits(const Tensor& hidden, int64_t begin, const Tensor& logits) override {
    return product_.Forward(hidden.RowSlice(begin, logits.rows), logits, *stream_);
  }
  absl::Status Backward(const Tensor& hidden, int64_t begin, const Tensor& grad_logits, const Tensor& grad_hidden,
                        const Tensor& signal) override {
    const int64_t tokens = grad_logits.rows;
    return product_.Backward(grad_logits, hidden.RowSlice(begin, tokens), grad_hidden.RowSlice(begin, tokens), signal,
                             *stream_);
  }
  // Sums the gradient of the hidden states over the ranks.
  absl::Status Finish(const Tensor& /*hidden*/, const Tensor& grad_hidden) override {
    return region_->Leave(grad_hidden, region_->LocalPart(grad_hidden));
  }

  absl::StatusOr<HeadView> View() override { return HeadView{.not_linear = "it was not yet said how to measure it"}; }
  ParameterHandle parameter() const override { return weight_; }
  double ForwardFlopsPerToken() const override { return 2 * static_cast<double>(setting_.vocabulary * setting_.width); }

 private:
  const PartSetting& setting_;
  VocabularyProduct product_;
  ParameterHandle weight_;
  const TensorRegion* region_ = nullptr;
  Stream* stream_ = nullptr;
};

}  // namespace

HeadKind SmallestHeadKind() {
  return {.name = "smallest",
          .make = [](const HeadRequest& request) { return std::make_unique<SmallestHead>(request.setting); }};
}

}  // namespace isthmus
// It ends here.

namespace isthmus::testing {
namespace {

TEST(SmallestHead, WorksEverywhere) {
  RegisterHead(SmallestHeadKind());
  TinyOptions options = PartOptions();
  options.head_kind = "smallest";
  CheckPart(options);
}

TEST(SmallestHead, HasTheFullHeadsBits) {
  TinyOptions options = PartOptions();
  options.head_kind = "smallest";
  for (const auto precision : {proto::PrecisionConfig::FP32, proto::PrecisionConfig::BF16}) {
    options.precision = precision;
    TinyOptions full = options;
    full.head_kind = "full";
    Replica smallest(options), reference(full);
    for (int64_t step = 1; step <= 3; ++step) EXPECT_EQ(smallest.Step(step).loss, reference.Step(step).loss) << step;
  }
}

}  // namespace
}  // namespace isthmus::testing
