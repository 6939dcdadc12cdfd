// The head of clusters has logits = h Wᵀ with w_v = u_v + q_c(v), where c(v) is the cluster of token v: tokens of a
// cluster share a part of their rows. U [V, D] is cut by rows; Q [C, D] is on every rank.
//
// W is linear in both, so that the gradient of U is that of W, B = Gᵀ H, and that of Q sums its rows by cluster:
// ∂L/∂q_c = Σ_{c(v) = c} b_v. A rare token therefore learns with its cluster. With one cluster for all tokens
// q changes no probability, and its gradient is zero.
//
// W is of full rank as a full head's, and the head folds into one. Programs that know
// no clusters compute the same logits from W.
#include <absl/strings/str_cat.h>

#include <cstddef>
#include <utility>
#include <vector>

#include "model/heads/heads.h"
#include "model/heads/vocabulary_product.h"
#include "ops/elementwise.h"
#include "ops/embedding.h"
#include "runtime/device.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

// The part q_c(v) of this rank's rows.
class ClusterRows {
 public:
  explicit ClusterRows(std::vector<int32_t> numbers) : numbers_(std::move(numbers)) {}

  void Place(int64_t rows, bool training, TensorPlacer& placer) {
    ids_ = placer.Place("head.clusters", DType::kInt32, 1, rows);
    if (training) workspace_ = placer.Place("head.cluster_rows", DType::kInt32, 1, 2 * rows);
  }
  // Takes Q and its gradient.
  void Bind(const Linear& shared) {
    shared_ = shared;
    has_ids_ = false;
  }

  // Computes weight [V_i, D] = Q[c]. Waits for the stream at the first call.
  absl::Status Fill(const Tensor& weight, Stream& stream) {
    if (!has_ids_ && !stream.dry()) {
      has_ids_ = true;
      ISTHMUS_RETURN_IF_ERROR(CopyFromHost(ConstTensor(numbers_.data(), DType::kInt32, 1, ids_.columns), ids_, stream));
    }
    return EmbeddingForward({.ids = ids_, .table = shared_.weight, .y = weight}, stream);
  }
  // Makes the gradient of Q from that of the rows, in the type of sums.
  absl::Status MakeGradient(const Tensor& gradient, Stream& stream) const {
    ISTHMUS_RETURN_IF_ERROR(SetZero({.x = shared_.gradient}, stream));
    return EmbeddingBackward({.ids = ids_, .grad_y = gradient, .grad_table = shared_.gradient, .workspace = workspace_},
                             stream);
  }

 private:
  const std::vector<int32_t> numbers_;  // of clusters, by row; empty where nothing is computed
  Linear shared_;
  Tensor ids_;  // int32 [1, V_i]: the same on the device
  bool has_ids_ = false;
  Tensor workspace_;  // int32
};

// Returns the clusters of a shard's rows.
std::vector<int32_t> NumbersOf(Range rows, const std::vector<int32_t>& all) {
  if (all.empty()) return {};
  return {all.begin() + rows.begin, all.begin() + rows.end};
}

class ClusterHead : public LmHead {
 public:
  explicit ClusterHead(const HeadRequest& request)
      : setting_(request.setting),
        clusters_(request.config.head().clusters().count()),
        rows_(setting_.Share(setting_.vocabulary)),
        shared_(NumbersOf(rows_, request.tables.clusters)),
        product_(setting_, setting_.width) {}

  void Declare(ParameterHandle /*embedding*/, ParameterBuilder& parameters) override {
    own_parameter_ = parameters.Add({.name = "head.weight",
                                     .role = ParameterRole::kHead,
                                     .rows = setting_.vocabulary,
                                     .columns = setting_.width,
                                     .sharding = Sharding::kRows,
                                     .shard = rows_,
                                     .init_std = setting_.init_std});
    // Q begins as zero. W then has the deviation of U, and is bit for bit the full head of the same seed. The gradient
    // of Q does not depend on Q, so it learns from the first step on. A shard has the part of its own rows.
    shared_parameter_ = parameters.Add({.name = "head.cluster.weight",
                                        .role = ParameterRole::kHead,
                                        .rows = clusters_,
                                        .columns = setting_.width,
                                        .gradient = GradientPart::kOfShard});
  }
  void Place(int64_t chunk, TensorPlacer& placer) override {
    product_.Place(chunk, placer);
    shared_.Place(rows_.size(), setting_.training, placer);
    weight_ = placer.Place("head.folded_weight", setting_.type, rows_.size(), setting_.width);
  }
  void Bind(const ParameterStore& parameters, const TensorRegion& region, Stream& stream) override {
    own_ = {parameters.Weight(own_parameter_), parameters.Gradient(own_parameter_)};
    shared_.Bind({parameters.Weight(shared_parameter_), parameters.Gradient(shared_parameter_)});
    product_.Bind(weight_, own_.gradient);
    region_ = &region;
    stream_ = &stream;
    folded_ = false;
  }

  // W is made once for all micro-batches of a step, outside of what a CUDA graph replays.
  absl::Status BeginStep(const HeadStep& /*step*/) override {
    folded_ = true;
    return Fold();
  }
  absl::Status Begin(const Tensor& /*hidden*/) override {
    if (folded_) return absl::OkStatus();
    folded_ = true;
    return Fold();
  }
  // The next micro-batch of training may have yet other weights.
  absl::Status BeginReading(const Tensor& /*hidden*/) override {
    folded_ = false;
    return Fold();
  }
  absl::Status Logits(const Tensor& hidden, int64_t begin, const Tensor& logits) override {
    return product_.Forward(hidden.RowSlice(begin, logits.rows), logits, *stream_);
  }
  absl::Status Backward(const Tensor& hidden, int64_t begin, const Tensor& grad_logits, const Tensor& grad_hidden,
                        const Tensor& signal) override {
    const int64_t tokens = grad_logits.rows;
    return product_.Backward(grad_logits, hidden.RowSlice(begin, tokens), grad_hidden.RowSlice(begin, tokens), signal,
                             *stream_);
  }
  // The gradient of U is that of all micro-batches so far, and so the gradient of Q is made of it anew: a difference
  // would need a copy of U's. The backbone adds the shards' parts up when the last micro-batch is done
  // (GradientPart::kOfShard).
  absl::Status Finish(const Tensor& /*hidden*/, const Tensor& grad_hidden) override {
    ISTHMUS_RETURN_IF_ERROR(shared_.MakeGradient(own_.gradient, *stream_));
    signal_ = region_->LocalPart(grad_hidden);
    return region_->Leave(grad_hidden, signal_);
  }

  absl::StatusOr<HeadView> View() override {
    ISTHMUS_RETURN_IF_ERROR(Fold());
    return HeadView{.rows = rows_,
                    .weight = weight_,
                    .gradient = own_.gradient,
                    .signal = signal_,
                    .signal_is_local = region_->sequence_parallel()};
  }
  ParameterHandle parameter() const override { return own_parameter_; }
  double ForwardFlopsPerToken() const override { return 2 * static_cast<double>(setting_.vocabulary * setting_.width); }

 private:
  // Makes W = U + Q[c] of this shard.
  absl::Status Fold() {
    ISTHMUS_RETURN_IF_ERROR(shared_.Fill(weight_, *stream_));
    return Add({.x = own_.weight, .y = weight_}, *stream_);
  }

  const PartSetting& setting_;
  const int64_t clusters_;  // C
  const Range rows_;
  ClusterRows shared_;         // with Q
  VocabularyProduct product_;  // with W; its gradient is U's
  ParameterHandle own_parameter_, shared_parameter_;
  Linear own_;  // U with its gradient
  const TensorRegion* region_ = nullptr;
  Stream* stream_ = nullptr;
  Tensor weight_;        // W [V_i, D]
  Tensor signal_;        // the local part of the hidden states' gradient
  bool folded_ = false;  // W is that of the running step
};

std::string CheckClusterHead(const proto::ModelConfig& config) {
  if (HeadRankOf(config) != 0) {
    return absl::StrCat(HeadRankField(config), ": ", HeadRankOf(config), "; a head of kind cluster accepts 0");
  }
  if (config.tied_embeddings()) return "model.tied_embeddings: true; a head of kind cluster accepts false";
  if (const int64_t most = config.head().clusters().most_classes(); most != 0) {
    return absl::StrCat("model.head.clusters.most_classes: ", most, "; a head of kind cluster has no levels; set 0");
  }
  // A part of U's gradient without the same part of Q's would be the gradient of neither.
  for (const auto& [name, weight] :
       {std::pair("orthogonality", config.head().orthogonality()), std::pair("alignment", config.head().alignment())}) {
    if (weight == 0) continue;
    return absl::StrCat(
        "model.head.", name, ": ", weight,
        "; a head of kind cluster accepts 0: its W is no parameter, and its two parts would need a share each");
  }
  const std::string& part = config.head().weight_gradient().kind();
  if (part == "full") return "";
  return absl::StrCat("model.head.weight_gradient.kind: ", part,
                      "; a head of kind cluster accepts full: the rows of a cluster share the rest of their gradient");
}

}  // namespace

HeadKind ClusterHeadKind() {
  return {.name = "cluster",
          .make = [](const HeadRequest& request) { return std::make_unique<ClusterHead>(request); },
          .plain_rows = true,
          .has_clusters = true,
          .title =
              [](const proto::ModelConfig& config) {
                return absl::StrCat("head of ", config.head().clusters().count(), " clusters");
              },
          .check = CheckClusterHead};
}

}  // namespace isthmus
