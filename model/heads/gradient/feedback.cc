// Feedback passes G F back, with another matrix F [V, D] in place of W; F is cut by rows as W is.
//
//   random           F stays as it was drawn (feedback alignment, arXiv:1411.0247)
//   dense_feedback   F learns what a full head would: its gradient is Gᵀ H. Beside a factorised head the gradient then
//                    has full width, though the forward pass has not.
#include "model/heads/gradient/backward.h"
#include "model/heads/gradient/norm_match.h"
#include "model/heads/vocabulary_product.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

class FeedbackBackward : public HeadBackward {
 public:
  FeedbackBackward(const HeadBackwardRequest& request, bool learns)
      : setting_(request.setting),
        learns_(learns),
        match_norm_(request.config.match_norm()),
        product_(request.setting, request.setting.width) {}

  void Declare(ParameterBuilder& parameters) override {
    parameter_ = parameters.Add({.name = "head.feedback.weight",
                                 .role = ParameterRole::kHead,
                                 .rows = setting_.vocabulary,
                                 .columns = setting_.width,
                                 .sharding = Sharding::kRows,
                                 .shard = setting_.Share(setting_.vocabulary),
                                 .init_std = setting_.init_std,
                                 .decay = learns_});
  }
  void Place(int64_t chunk, TensorPlacer& placer) override {
    product_.Place(chunk, placer);
    norm_.Place(placer);
  }
  void Bind(const ParameterStore& parameters, const TensorRegion& region, Stream& stream) override {
    product_.Bind(parameters, parameter_);
    region_ = &region;
    stream_ = &stream;
  }

  absl::Status AddChunk(const Tensor& grad_logits, const Tensor& hidden, const Tensor& passed) override {
    return learns_ ? product_.Backward(grad_logits, hidden, passed, {}, *stream_)
                   : product_.BackwardInput(grad_logits, passed, {}, *stream_);
  }
  absl::Status Finish(const Tensor& plain, const Tensor& passed) override {
    const Tensor local = region_->LocalPart(passed);
    ISTHMUS_RETURN_IF_ERROR(region_->Leave(passed, local));
    return match_norm_ ? norm_.OfTokens(plain, local, *region_, *stream_) : absl::OkStatus();
  }
  double FlopsPerToken() const override {
    return (learns_ ? 4 : 2) * static_cast<double>(setting_.vocabulary * setting_.width);
  }

 private:
  const PartSetting& setting_;
  const bool learns_, match_norm_;
  VocabularyProduct product_;  // with F
  NormMatch norm_;
  ParameterHandle parameter_;
  const TensorRegion* region_ = nullptr;
  Stream* stream_ = nullptr;
};

HeadBackwardKind FeedbackKindOf(const char* name, bool learns) {
  return {
      .name = name,
      .make =
          [learns](const HeadBackwardRequest& request) { return std::make_unique<FeedbackBackward>(request, learns); },
      .check = nullptr};
}

}  // namespace

HeadBackwardKind RandomBackwardKind() { return FeedbackKindOf("random", /*learns=*/false); }

HeadBackwardKind DenseFeedbackBackwardKind() { return FeedbackKindOf("dense_feedback", /*learns=*/true); }

}  // namespace isthmus
