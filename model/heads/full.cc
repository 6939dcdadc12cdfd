// The full head: logits = h Wᵀ with W [V, D] cut by rows, and what its rows may have (head_rows.h). A tied head's W is the table of token embeddings (Press &
// Wolf 2017, arXiv:1608.05859).
#include <absl/strings/str_cat.h>

#include "model/heads/head_rows.h"
#include "model/heads/heads.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

class FullHead : public LmHead {
 public:
  FullHead(const HeadRequest& request, bool tied)
      : setting_(request.setting), tied_(tied), rows_(request, setting_.width) {}

  void Declare(ParameterHandle embedding, ParameterBuilder& parameters) override {
    const ParameterHandle rows = tied_ ? embedding
                                       : parameters.Add({.name = "head.weight",
                                                         .role = ParameterRole::kHead,
                                                         .rows = setting_.vocabulary,
                                                         .columns = setting_.width,
                                                         .sharding = Sharding::kRows,
                                                         .shard = setting_.Share(setting_.vocabulary),
                                                         .init_std = setting_.init_std});
    rows_.Declare(rows, parameters);
  }
  void Place(int64_t chunk, TensorPlacer& placer) override { rows_.Place(chunk, placer); }
  void Bind(const ParameterStore& parameters, const TensorRegion& region, Stream& stream) override {
    rows_.Bind(parameters, stream);
    region_ = &region;
  }

  absl::Status BeginStep(const HeadStep& /*step*/) override { return rows_.BeginStep(); }
  absl::Status Begin(const Tensor& /*hidden*/) override { return rows_.Begin(); }
  absl::Status BeginReading(const Tensor& /*hidden*/) override { return rows_.BeginReading(); }
  absl::Status Logits(const Tensor& hidden, int64_t begin, const Tensor& logits) override {
    return rows_.Forward(hidden.RowSlice(begin, logits.rows), logits);
  }
  absl::Status Backward(const Tensor& hidden, int64_t begin, const Tensor& grad_logits, const Tensor& grad_hidden,
                        const Tensor& signal) override {
    const int64_t tokens = grad_logits.rows;
    return rows_.Backward(grad_logits, hidden.RowSlice(begin, tokens), grad_hidden.RowSlice(begin, tokens), signal);
  }
  absl::Status Finish(const Tensor& /*hidden*/, const Tensor& grad_hidden) override {
    ISTHMUS_RETURN_IF_ERROR(rows_.Finish());
    signal_ = region_->LocalPart(grad_hidden);
    return region_->Leave(grad_hidden, signal_);
  }

  absl::StatusOr<HeadView> View() override {
    HeadView view = {.signal = signal_, .signal_is_local = region_->sequence_parallel()};
    ISTHMUS_RETURN_IF_ERROR(rows_.AddTo(view));
    return view;
  }
  ParameterHandle parameter() const override { return rows_.parameter(); }
  double ForwardFlopsPerToken() const override { return 2 * static_cast<double>(setting_.vocabulary * setting_.width); }

 private:
  const PartSetting& setting_;
  const bool tied_;
  HeadRows rows_;
  const TensorRegion* region_ = nullptr;
  Tensor signal_;  // the local part of the hidden states' gradient
};

std::string CheckFull(const proto::ModelConfig& config, bool tied) {
  const char* kind = tied ? "tied" : "full";
  if (HeadRankOf(config) != 0) {
    return absl::StrCat(HeadRankField(config), ": ", HeadRankOf(config), "; a head of kind ", kind, " accepts 0");
  }
  if (config.tied_embeddings() != tied) {
    return absl::StrCat("model.tied_embeddings: ", config.tied_embeddings() ? "true" : "false", "; a head of kind ",
                        kind, " accepts ", tied ? "true" : "false");
  }
  return "";
}

HeadKind KindOf(const char* name, bool tied) {
  return {
      .name = name,
      .make = [tied](const HeadRequest& request) { return std::make_unique<FullHead>(request, tied); },
      .plain_rows = true,
      .takes_bias = true,
      .takes_row_scale = !tied,
      .shape =
          [tied](const proto::ModelConfig& config) { return HeadShape{.width = config.width(), .in_embedding = tied}; },
      .title = [tied](const proto::ModelConfig&) { return tied ? "tied head" : "head at full width"; },
      .check = [tied](const proto::ModelConfig& config) { return CheckFull(config, tied); }};
}

}  // namespace

HeadKind FullHeadKind() { return KindOf("full", /*tied=*/false); }

HeadKind TiedHeadKind() { return KindOf("tied", /*tied=*/true); }

}  // namespace isthmus
