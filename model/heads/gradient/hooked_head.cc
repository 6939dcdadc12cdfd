#include "model/heads/gradient/hooked_head.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include <utility>

#include "model/heads/gradient/backward.h"
#include "model/heads/gradient/head_losses.h"
#include "model/heads/gradient/kept_gradient.h"
#include "model/heads/gradient/weight_gradient.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

class HookedHead : public LmHead {
 public:
  HookedHead(const HeadRequest& request, std::unique_ptr<LmHead> head)
      : setting_(request.setting),
        head_(std::move(head)),
        kept_(HeadShapeOf(request.config), request.setting),
        weight_gradient_(request.config.head().weight_gradient(), HeadShapeOf(request.config), request.setting),
        losses_(request.config.head(), HeadShapeOf(request.config), request.setting) {
    const HeadBackwardKind& kind = *FindHeadBackward(request.config.head().backward().kind());
    if (!kind.make) return;
    backward_ = kind.make(
        {.config = request.config.head().backward(), .shape = HeadShapeOf(request.config), .setting = setting_});
  }

  void Declare(ParameterHandle embedding, ParameterBuilder& parameters) override {
    head_->Declare(embedding, parameters);
    if (backward_ != nullptr) backward_->Declare(parameters);
  }
  void Place(int64_t chunk, TensorPlacer& placer) override {
    head_->Place(chunk, placer);
    if (!setting_.training) return;
    if (changes_gradient()) kept_.Place(placer);
    if (weight_gradient_.changes()) weight_gradient_.Place(placer);
    if (losses_.wanted()) losses_.Place(chunk, placer);
    if (backward_ == nullptr) return;
    backward_->Place(chunk, placer);
    plain_ = placer.Place("head.plain_signal", setting_.type, setting_.batch.tokens(), setting_.width);
  }
  void Bind(const ParameterStore& parameters, const TensorRegion& region, Stream& stream) override {
    head_->Bind(parameters, region, stream);
    if (backward_ != nullptr) backward_->Bind(parameters, region, stream);
    region_ = &region;
    stream_ = &stream;
  }

  absl::Status BeginStep(const HeadStep& step) override {
    ISTHMUS_RETURN_IF_ERROR(head_->BeginStep(step));
    ISTHMUS_RETURN_IF_ERROR(losses_.BeginStep(*stream_));
    if (backward_ == nullptr) return absl::OkStatus();
    ISTHMUS_ASSIGN_OR_RETURN(const HeadView head, head_->View());
    return backward_->BeginStep(head, step.step);
  }
  absl::Status Begin(const Tensor& hidden) override { return head_->Begin(hidden); }
  bool reads_inputs() const override { return head_->reads_inputs(); }
  void TakeInputs(const Tensor& ids) override { head_->TakeInputs(ids); }
  absl::Status BeginReading(const Tensor& hidden) override { return head_->BeginReading(hidden); }
  absl::Status Logits(const Tensor& hidden, int64_t begin, const Tensor& logits) override {
    return head_->Logits(hidden, begin, logits);
  }
  absl::Status Backward(const Tensor& hidden, int64_t begin, const Tensor& grad_logits, const Tensor& grad_hidden,
                        const Tensor& signal) override {
    const int64_t tokens = grad_logits.rows;
    const Tensor plain = backward_ == nullptr ? grad_hidden : plain_.RowSlice(0, hidden.rows);
    const Tensor part = losses_.Signal(signal, tokens);
    ISTHMUS_RETURN_IF_ERROR(head_->Backward(hidden, begin, grad_logits, plain, part));
    ISTHMUS_RETURN_IF_ERROR(losses_.AddChunk(grad_logits, part, *region_, *stream_));
    if (backward_ == nullptr) return absl::OkStatus();
    return backward_->AddChunk(grad_logits, hidden.RowSlice(begin, tokens), grad_hidden.RowSlice(begin, tokens));
  }
  absl::Status Finish(const Tensor& hidden, const Tensor& grad_hidden) override {
    if (backward_ == nullptr) return head_->Finish(hidden, grad_hidden);
    const Tensor plain = plain_.RowSlice(0, hidden.rows);
    ISTHMUS_RETURN_IF_ERROR(head_->Finish(hidden, plain));
    return backward_->Finish(region_->LocalPart(plain), grad_hidden);
  }

  bool changes_gradient() const override { return weight_gradient_.changes() || losses_.wanted(); }
  absl::Status ChangeGradient(double energy) override {
    ISTHMUS_ASSIGN_OR_RETURN(const HeadView head, head_->View());
    ISTHMUS_RETURN_IF_ERROR(kept_.Keep(head, *stream_));
    if (weight_gradient_.changes()) ISTHMUS_RETURN_IF_ERROR(weight_gradient_.Change(head, kept_, *region_, *stream_));
    return losses_.wanted() ? losses_.AddGradients(head, energy, *region_, *stream_) : absl::OkStatus();
  }
  absl::Status RestoreGradient() override {
    ISTHMUS_ASSIGN_OR_RETURN(const HeadView head, head_->View());
    return kept_.Restore(head, *stream_);
  }
  HeadLossValues losses() const override { return losses_.values(); }

  absl::StatusOr<HeadView> View() override { return head_->View(); }
  ParameterHandle parameter() const override { return head_->parameter(); }
  double ForwardFlopsPerToken() const override { return head_->ForwardFlopsPerToken(); }
  double MoreBackwardFlopsPerToken() const override {
    return head_->MoreBackwardFlopsPerToken() + losses_.FlopsPerToken() +
           (backward_ == nullptr ? 0 : backward_->FlopsPerToken());
  }

 private:
  const PartSetting& setting_;
  std::unique_ptr<LmHead> head_;
  std::unique_ptr<HeadBackward> backward_;  // null: A is passed back
  KeptGradient kept_;
  WeightGradient weight_gradient_;
  HeadLosses losses_;
  Tensor plain_;  // A [N, D]
  const TensorRegion* region_ = nullptr;
  Stream* stream_ = nullptr;
};

std::string CheckBackward(const proto::ModelConfig& config) {
  const proto::HeadBackwardConfig& backward = config.head().backward();
  const HeadBackwardKind* kind = FindHeadBackward(backward.kind());
  if (kind == nullptr) {
    return absl::StrCat("model.head.backward.kind: found \"", backward.kind(), "\"; accepts ",
                        absl::StrJoin(HeadBackwardNames(), ", "));
  }
  if (backward.interval() < 1) {
    return absl::StrCat("model.head.backward.interval: ", backward.interval(), "; accepts 1 step and more");
  }
  return kind->check ? kind->check(config) : "";
}

std::string CheckWeightGradient(const proto::ModelConfig& config) {
  const std::string& kind = config.head().weight_gradient().kind();
  if (kind == "full") return "";
  if (kind != "visible" && kind != "lost") {
    return absl::StrCat("model.head.weight_gradient.kind: found \"", kind, "\"; accepts full, visible, lost");
  }
  if (!HeadShapeOf(config).in_embedding) return "";
  return absl::StrCat("model.head.weight_gradient.kind: ", kind,
                      "; the gradient of tied embeddings is that of both uses; needs a head of its own");
}

bool AsksForHooks(const proto::HeadConfig& config) {
  return config.backward().kind() != "plain" || config.weight_gradient().kind() != "full" ||
         config.orthogonality() != 0 || config.alignment() != 0;
}

}  // namespace

std::unique_ptr<LmHead> WithHooks(const HeadRequest& request, std::unique_ptr<LmHead> head) {
  if (!AsksForHooks(request.config.head())) return head;
  return std::make_unique<HookedHead>(request, std::move(head));
}

std::string CheckHooks(const proto::ModelConfig& config, const HeadKind& kind) {
  std::string wrong = CheckBackward(config);
  if (wrong.empty()) wrong = CheckWeightGradient(config);
  if (wrong.empty()) wrong = CheckHeadLosses(config.head());
  if (!wrong.empty() || kind.plain_rows || !AsksForHooks(config.head())) return wrong;
  return absl::StrCat("model.head.kind: ", kind.name,
                      "; its logits are no product with a parameter, as model.head.backward, weight_gradient, "
                      "orthogonality and alignment need it; set those to their defaults");
}

}  // namespace isthmus
