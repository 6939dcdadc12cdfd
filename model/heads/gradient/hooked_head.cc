#include "model/heads/gradient/hooked_head.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include <utility>

#include "model/heads/gradient/backward.h"
#include "model/heads/gradient/weight_gradient.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

class HookedHead : public LmHead {
 public:
  HookedHead(const HeadRequest& request, std::unique_ptr<LmHead> head)
      : setting_(request.setting),
        head_(std::move(head)),
        weight_gradient_(request.config.head().weight_gradient(), HeadShapeOf(request.config), request.setting) {
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
    if (weight_gradient_.changes()) weight_gradient_.Place(placer);
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
    if (backward_ == nullptr) return absl::OkStatus();
    ISTHMUS_ASSIGN_OR_RETURN(const HeadView head, head_->View());
    return backward_->BeginStep(head, step.step);
  }
  absl::Status Begin(const Tensor& hidden) override { return head_->Begin(hidden); }
  absl::Status Logits(const Tensor& hidden, int64_t begin, const Tensor& logits) override {
    return head_->Logits(hidden, begin, logits);
  }
  absl::Status Backward(const Tensor& hidden, int64_t begin, const Tensor& grad_logits, const Tensor& grad_hidden,
                        const Tensor& signal) override {
    if (backward_ == nullptr) return head_->Backward(hidden, begin, grad_logits, grad_hidden, signal);
    const int64_t tokens = grad_logits.rows;
    ISTHMUS_RETURN_IF_ERROR(head_->Backward(hidden, begin, grad_logits, plain_.RowSlice(0, hidden.rows), signal));
    return backward_->AddChunk(grad_logits, hidden.RowSlice(begin, tokens), grad_hidden.RowSlice(begin, tokens));
  }
  absl::Status Finish(const Tensor& hidden, const Tensor& grad_hidden) override {
    if (backward_ == nullptr) return head_->Finish(hidden, grad_hidden);
    const Tensor plain = plain_.RowSlice(0, hidden.rows);
    ISTHMUS_RETURN_IF_ERROR(head_->Finish(hidden, plain));
    return backward_->Finish(region_->LocalPart(plain), grad_hidden);
  }

  bool changes_gradient() const override { return weight_gradient_.changes(); }
  absl::Status ChangeGradient() override {
    ISTHMUS_ASSIGN_OR_RETURN(const HeadView head, head_->View());
    return weight_gradient_.Change(head, *region_, *stream_);
  }
  absl::Status RestoreGradient() override {
    ISTHMUS_ASSIGN_OR_RETURN(const HeadView head, head_->View());
    return weight_gradient_.Restore(head, *stream_);
  }

  absl::StatusOr<HeadView> View() override { return head_->View(); }
  ParameterHandle parameter() const override { return head_->parameter(); }
  double ForwardFlopsPerToken() const override { return head_->ForwardFlopsPerToken(); }
  double MoreBackwardFlopsPerToken() const override {
    return head_->MoreBackwardFlopsPerToken() + (backward_ == nullptr ? 0 : backward_->FlopsPerToken());
  }

 private:
  const PartSetting& setting_;
  std::unique_ptr<LmHead> head_;
  std::unique_ptr<HeadBackward> backward_;  // null: A is passed back
  WeightGradient weight_gradient_;
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

}  // namespace

std::unique_ptr<LmHead> WithHooks(const HeadRequest& request, std::unique_ptr<LmHead> head) {
  const proto::HeadConfig& config = request.config.head();
  if (config.backward().kind() == "plain" && config.weight_gradient().kind() == "full") return head;
  return std::make_unique<HookedHead>(request, std::move(head));
}

std::string CheckHooks(const proto::ModelConfig& config, const HeadKind& kind) {
  std::string wrong = CheckBackward(config);
  if (wrong.empty()) wrong = CheckWeightGradient(config);
  if (!wrong.empty() || kind.plain_rows) return wrong;
  const proto::HeadConfig& head = config.head();
  if (head.backward().kind() == "plain" && head.weight_gradient().kind() == "full") return "";
  return absl::StrCat("model.head.kind: ", kind.name,
                      "; its logits are no product with a parameter, as model.head.backward and "
                      "model.head.weight_gradient need it; set those to their defaults");
}

}  // namespace isthmus
