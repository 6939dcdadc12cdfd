// The factorised head has logits = (h Eᵀ) Uᵀ, so that W = U E has rank R. U [V, R] is cut by rows; E [R, D] is on every
// rank. Its rows may have more (head_rows.h).
#include <absl/strings/str_cat.h>

#include <cmath>

#include "model/heads/head_rows.h"
#include "model/heads/heads.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

class FactorisedHead : public LmHead {
 public:
  explicit FactorisedHead(const HeadRequest& request)
      : setting_(request.setting), rank_(HeadRankOf(request.config)), rows_(request, rank_) {}

  void Declare(ParameterHandle /*embedding*/, ParameterBuilder& parameters) override {
    const auto width = static_cast<double>(setting_.width), rank = static_cast<double>(rank_);
    // The entries of the product W = U E then have the deviation init_std, as those of a head of full width.
    down_parameter_ = parameters.Add({.name = "head.down.weight",
                                      .role = ParameterRole::kHead,
                                      .rows = rank_,
                                      .columns = setting_.width,
                                      .init_std = 1.0 / std::sqrt(width)});
    const ParameterHandle up = parameters.Add({.name = "head.up.weight",
                                               .role = ParameterRole::kHead,
                                               .rows = setting_.vocabulary,
                                               .columns = rank_,
                                               .sharding = Sharding::kRows,
                                               .shard = setting_.Share(setting_.vocabulary),
                                               .init_std = setting_.init_std * std::sqrt(width / rank)});
    rows_.Declare(up, parameters);
  }
  void Place(int64_t chunk, TensorPlacer& placer) override {
    rows_.Place(chunk, placer);
    projected_ = placer.Place("head.projected", setting_.type, setting_.batch.tokens(), rank_);
    if (setting_.training) {
      grad_projected_ = placer.Place("head.grad_projected", setting_.type, setting_.batch.tokens(), rank_);
    }
  }
  void Bind(const ParameterStore& parameters, const TensorRegion& region, Stream& stream) override {
    down_ = {parameters.Weight(down_parameter_), parameters.Gradient(down_parameter_)};
    rows_.Bind(parameters, stream);
    region_ = &region;
    stream_ = &stream;
  }

  absl::Status BeginStep(const HeadStep& /*step*/) override { return rows_.BeginStep(); }
  absl::Status Begin(const Tensor& hidden) override {
    ISTHMUS_RETURN_IF_ERROR(rows_.Begin());
    return down_.Forward(hidden, projected_.RowSlice(0, hidden.rows), *stream_);
  }
  absl::Status BeginReading(const Tensor& hidden) override {
    ISTHMUS_RETURN_IF_ERROR(rows_.BeginReading());
    return down_.Forward(hidden, projected_.RowSlice(0, hidden.rows), *stream_);
  }
  absl::Status Logits(const Tensor& /*hidden*/, int64_t begin, const Tensor& logits) override {
    return rows_.Forward(projected_.RowSlice(begin, logits.rows), logits);
  }
  absl::Status Backward(const Tensor& /*hidden*/, int64_t begin, const Tensor& grad_logits,
                        const Tensor& /*grad_hidden*/, const Tensor& signal) override {
    const int64_t tokens = grad_logits.rows;
    return rows_.Backward(grad_logits, projected_.RowSlice(begin, tokens), grad_projected_.RowSlice(begin, tokens),
                          signal);
  }
  // Every tensor rank goes on with all tokens of the whole sum, so that the gradient of E needs no reduction.
  absl::Status Finish(const Tensor& hidden, const Tensor& grad_hidden) override {
    ISTHMUS_RETURN_IF_ERROR(rows_.Finish());
    signal_ = grad_projected_.RowSlice(0, hidden.rows);
    if (region_->tensor().size() > 1) ISTHMUS_RETURN_IF_ERROR(region_->tensor().AllReduce(signal_));
    ISTHMUS_RETURN_IF_ERROR(down_.BackwardWeight(signal_, hidden, *stream_));
    return down_.BackwardInput(signal_, grad_hidden, *stream_);
  }

  absl::StatusOr<HeadView> View() override {
    HeadView view = {.down = &down_, .signal = signal_};
    ISTHMUS_RETURN_IF_ERROR(rows_.AddTo(view));
    return view;
  }
  ParameterHandle parameter() const override { return rows_.parameter(); }
  double ForwardFlopsPerToken() const override {
    return 2 * static_cast<double>(rank_ * (setting_.vocabulary + setting_.width));
  }

 private:
  const PartSetting& setting_;
  const int64_t rank_;
  HeadRows rows_;  // U
  Linear down_;    // E
  ParameterHandle down_parameter_;
  const TensorRegion* region_ = nullptr;
  Stream* stream_ = nullptr;
  Tensor projected_;       // [N, R] h Eᵀ
  Tensor grad_projected_;  // [N, R]
  Tensor signal_;          // A of all tokens
};

std::string CheckFactorised(const proto::ModelConfig& config) {
  const int64_t rank = HeadRankOf(config);
  if (rank < 1 || rank > config.width()) {
    return absl::StrCat(HeadRankField(config), ": ", rank, "; accepts 0 (full width) to model.width (", config.width(),
                        ")");
  }
  if (!config.tied_embeddings()) return "";
  return "model.tied_embeddings: true; a factorised head (model.head.rank) can't be the embedding table; set one of "
         "them to its default";
}

}  // namespace

HeadKind FactorisedHeadKind() {
  return {.name = "factorised",
          .make = [](const HeadRequest& request) { return std::make_unique<FactorisedHead>(request); },
          .plain_rows = true,
          .takes_bias = true,
          .takes_row_scale = true,
          .shape =
              [](const proto::ModelConfig& config) { return HeadShape{.width = HeadRankOf(config), .has_down = true}; },
          .title = [](const proto::ModelConfig& config) { return absl::StrCat("head of rank ", HeadRankOf(config)); },
          .check = CheckFactorised};
}

}  // namespace isthmus
