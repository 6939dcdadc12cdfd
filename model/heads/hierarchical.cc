// The hierarchical head has a softmax in two levels (Goodman 2001, arXiv:cs/0108006; Grave et al. 2017,
// arXiv:1609.04309): P(v | h) = P(c | h) P(v | c, h) for a token v of cluster c, and P(v | h) in the first level alone
// for one without a cluster. Clusters are model.head.clusters.
//
//   first level   z_c = h · r_c for clusters, z_v = h · u_v for tokens without one      R [C, D], U [V, D]
//   second level  z_v = h · u_v for the tokens of the target's cluster
//
// U and R are cut by rows over the tensor ranks, so that a rank has part of every level. In training and in evaluation
// only the first level and the target's cluster are computed. Text is generated from the probabilities of all tokens.
//
// A soft cap is on the logits of both levels, and a z-loss on the softmax of each.
//
// The logits of both levels are linear in h. Which of them a token has depends on its target, so that there is no one
// matrix W, and the decomposition says so. The Jacobian of a token is that of its own logits: the first level, and its
// target's cluster (levels/level_jacobians.h).
#include <absl/strings/str_cat.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "model/algebra/host_copy.h"
#include "model/algebra/matrix.h"
#include "model/heads/heads.h"
#include "model/heads/levels/level_jacobians.h"
#include "model/heads/levels/level_probabilities.h"
#include "model/heads/levels/level_targets.h"
#include "model/heads/levels/packed_levels.h"
#include "model/heads/levels/two_levels.h"
#include "model/linear.h"
#include "ops/elementwise.h"
#include "ops/embedding.h"
#include "ops/loss_form.h"
#include "runtime/data/equal_clusters.h"
#include "runtime/data/frequency_clusters.h"
#include "runtime/device.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr char kLevels[] = "its softmax has two levels, whose classes depend on the target";

// Cluster 0 of clusters by frequency are the tokens of the first level.
TwoLevels LevelsOf(const HeadRequest& request) {
  const PartSetting& setting = request.setting;
  const bool singles = request.config.head().clusters().kind() == kClustersByFrequency;
  int64_t count = request.config.head().clusters().count();
  std::vector<int32_t> clusters = request.tables.clusters;
  // Where nothing is computed, clusters may be unknown, and so may their number and the vocabulary.
  if (clusters.empty()) {
    count = std::clamp<int64_t>(count, 1, std::max<int64_t>(setting.vocabulary, 1));
    const std::vector<uint64_t> unknown(static_cast<size_t>(setting.vocabulary));
    clusters = singles ? FrequencyClusters(unknown, count, request.config.head().clusters().growth())
                       : OrderedClusters(setting.vocabulary, count);
  }
  if (singles) std::transform(clusters.begin(), clusters.end(), clusters.begin(), [](int32_t c) { return c - 1; });
  return {clusters, singles ? count - 1 : count, setting.tensor_ranks, setting.tensor_rank};
}

// Returns the share of the tokens in each cluster, by how often each occurs; of the vocabulary if that is not known.
std::vector<double> SharesOf(const TwoLevels& levels, const std::vector<uint64_t>& counts) {
  const double all = std::accumulate(counts.begin(), counts.end(), 0.0);
  std::vector<double> shares(static_cast<size_t>(levels.clusters()));
  for (int32_t token = 0; token < levels.vocabulary(); ++token) {
    const int32_t cluster = levels.cluster_of(token);
    if (cluster == TwoLevels::kNoCluster) continue;
    shares[static_cast<size_t>(cluster)] += all > 0 ? static_cast<double>(counts[static_cast<size_t>(token)]) / all
                                                    : 1.0 / static_cast<double>(levels.vocabulary());
  }
  return shares;
}

class HierarchicalHead : public LmHead {
 public:
  explicit HierarchicalHead(const HeadRequest& request)
      : setting_(request.setting),
        form_(LossFormOf(request.config)),
        levels_(LevelsOf(request)),
        shares_(SharesOf(levels_, request.tables.counts)),
        rows_(setting_, levels_),
        targets_(setting_, levels_) {}

  void Declare(ParameterHandle /*embedding*/, ParameterBuilder& parameters) override {
    const auto add = [&](const char* name, int64_t rows) {
      return parameters.Add({.name = name,
                             .role = ParameterRole::kHead,
                             .rows = rows,
                             .columns = setting_.width,
                             .sharding = Sharding::kRows,
                             .shard = setting_.Share(rows),
                             .init_std = setting_.init_std});
    };
    parameter_ = add("head.weight", setting_.vocabulary);
    cluster_parameter_ = add("head.cluster.weight", levels_.clusters());
  }
  void Place(int64_t chunk, TensorPlacer& placer) override {
    const int64_t width = setting_.width, tokens = setting_.batch.tokens();
    rows_.Place(chunk, placer);
    targets_.Place(placer);
    memory_.ordered = placer.Place("head.ordered_hidden", setting_.type, tokens, width);
    memory_.cluster_logits = placer.Place("head.cluster_logits", setting_.sum_type(), chunk, rows_.clusters().size());
    if (setting_.training) memory_.grad_ordered = placer.Place("head.grad_ordered", setting_.type, tokens, width);
  }
  void Bind(const ParameterStore& parameters, const TensorRegion& region, Stream& stream) override {
    const auto linear = [&](ParameterHandle handle) {
      return Linear{parameters.Weight(handle), parameters.Gradient(handle)};
    };
    tokens_of_rank_ = linear(parameter_);
    rows_.Bind(linear(cluster_parameter_), tokens_of_rank_, stream);
    jacobians_.emplace(levels_, form_, linear(cluster_parameter_), tokens_of_rank_, region.tensor(), stream);
    region_ = &region;
    stream_ = &stream;
    in_step_ = false;
  }

  absl::Status BeginStep(const HeadStep& step) override {
    ISTHMUS_RETURN_IF_ERROR(targets_.Take(step.targets, *stream_));
    in_step_ = true;
    return rows_.Pack();
  }

  absl::Status Train(const HeadBatch& batch, SoftmaxLoss& loss) override {
    if (!in_step_) ISTHMUS_RETURN_IF_ERROR(BeginAlone(batch.targets));
    ISTHMUS_RETURN_IF_ERROR(targets_.Put(batch.begin, *stream_));
    ISTHMUS_RETURN_IF_ERROR(rows_.ResetGradient());
    ISTHMUS_RETURN_IF_ERROR(FirstLevel(batch.hidden, loss, &batch));
    ISTHMUS_RETURN_IF_ERROR(SecondLevel(batch.hidden, loss, &batch));
    ISTHMUS_RETURN_IF_ERROR(rows_.AddGradient());
    return region_->Leave(batch.grad_hidden, region_->LocalPart(batch.grad_hidden));
  }
  bool takes_future(int64_t /*step*/) const override { return false; }
  // The sizes of its work follow from the targets.
  bool capturable() const override { return false; }

  absl::Status Evaluate(const Tensor& hidden, const Tensor& targets, SoftmaxLoss& loss) override {
    ISTHMUS_RETURN_IF_ERROR(BeginAlone(targets));
    ISTHMUS_RETURN_IF_ERROR(targets_.Put(0, *stream_));
    ISTHMUS_RETURN_IF_ERROR(FirstLevel(hidden, loss, nullptr));
    return SecondLevel(hidden, loss, nullptr);
  }

  absl::Status Begin(const Tensor& /*hidden*/) override { return rows_.Pack(); }
  // Computes log P(v | h), whose log-sum-exp is 0. The host does all but the products.
  absl::Status Logits(const Tensor& hidden, int64_t begin, const Tensor& logits) override {
    const int64_t tokens = logits.rows;
    const Tensor rows = hidden.RowSlice(begin, tokens), cluster_logits = memory_.cluster_logits.RowSlice(0, tokens);
    ISTHMUS_RETURN_IF_ERROR(tokens_of_rank_.Forward(rows, logits, *stream_));
    ISTHMUS_RETURN_IF_ERROR(rows_.Forward(rows_.clusters(), rows, cluster_logits));
    if (stream_->dry()) return absl::OkStatus();
    ISTHMUS_ASSIGN_OR_RETURN(Matrix found_clusters, HostCopy(cluster_logits, *stream_));
    Matrix found(tokens, logits.columns);
    for (int64_t n = 0; n < tokens; ++n) {
      ISTHMUS_ASSIGN_OR_RETURN(found.row(n), HostCopy(logits.RowSlice(n, 1), *stream_));
    }
    for (Matrix* level : {&found_clusters, &found}) {
      if (form_.capped()) *level = level->unaryExpr([&](double logit) { return form_.Capped(logit); }).eval();
    }
    ISTHMUS_RETURN_IF_ERROR(ToLogProbabilities(levels_, found_clusters, found, region_->tensor()));
    for (int64_t n = 0; n < tokens; ++n) {
      ISTHMUS_RETURN_IF_ERROR(CopyToTensor(found.row(n), logits.RowSlice(n, 1), *stream_));
    }
    return absl::OkStatus();
  }

  bool log_probabilities() const override { return true; }

  absl::StatusOr<HeadView> View() override {
    return HeadView{.not_linear = kLevels, .jacobians = jacobians_.has_value() ? &*jacobians_ : nullptr};
  }
  ParameterHandle parameter() const override { return parameter_; }
  // Targets are spread as the tokens of the training data, or evenly over the vocabulary where those are not known.
  double ForwardFlopsPerToken() const override {
    double classes = static_cast<double>(levels_.first_level_classes());
    for (int64_t cluster = 0; cluster < levels_.clusters(); ++cluster) {
      classes += shares_[static_cast<size_t>(cluster)] * static_cast<double>(levels_.members(cluster));
    }
    return 2 * classes * static_cast<double>(setting_.width);
  }
  int64_t MoreClasses() const override { return levels_.own_clusters().size(); }

 private:
  // Begins a micro-batch that belongs to no step. Waits for the stream.
  absl::Status BeginAlone(const Tensor& targets) {
    std::vector<int32_t> host(static_cast<size_t>(targets.size()));
    const Tensor copy(host.data(), DType::kInt32, 1, targets.size());
    ISTHMUS_RETURN_IF_ERROR(CopyToHost(targets, copy, *stream_));
    ISTHMUS_RETURN_IF_ERROR(targets_.Take(copy, *stream_));
    in_step_ = false;
    return rows_.Pack();
  }

  // Works on the first level of all tokens. Without `batch` there are no gradients.
  absl::Status FirstLevel(const Tensor& hidden, SoftmaxLoss& loss, const HeadBatch* batch) {
    const Range classes = rows_.first_level();
    return loss.ForChunks(hidden.rows, [&](int64_t begin, int64_t tokens) -> absl::Status {
      const SoftmaxChunk chunk = {.logits = loss.Logits(tokens, classes.size()),
                                  .targets = targets_.Row(kFirstClass, begin, tokens),
                                  .first_class = levels_.first_class()};
      const Tensor rows = hidden.RowSlice(begin, tokens);
      ISTHMUS_RETURN_IF_ERROR(rows_.Forward(classes, rows, chunk.logits));
      ISTHMUS_RETURN_IF_ERROR(loss.Add(chunk));
      if (batch == nullptr) return absl::OkStatus();
      ISTHMUS_ASSIGN_OR_RETURN(const Tensor gradient, loss.Gradient(chunk, batch->scale, nullptr));
      return rows_.Backward(classes, gradient, rows, batch->grad_hidden.RowSlice(begin, tokens));
    });
  }

  // Works on the second level, in the order of the clusters.
  absl::Status SecondLevel(const Tensor& hidden, SoftmaxLoss& loss, const HeadBatch* batch) {
    const LevelTargets& targets = targets_.order();
    if (targets.count == 0) return absl::OkStatus();
    const Tensor ordered = memory_.ordered.RowSlice(0, targets.count);
    ISTHMUS_RETURN_IF_ERROR(
        EmbeddingForward({.ids = targets_.Row(kOrder, 0, targets.count), .table = hidden, .y = ordered}, *stream_));
    size_t part = 0;
    for (int64_t begin = 0; begin < targets.count; begin += loss.chunk()) {
      const int64_t end = std::min(begin + loss.chunk(), targets.count);
      if (targets.parts[part].places.end <= begin) ++part;
      ISTHMUS_RETURN_IF_ERROR(SecondLevelChunk({begin, end}, targets, part, loss, batch));
    }
    if (batch == nullptr) return absl::OkStatus();
    // Each token's gradient goes back to its place; those without a second level read as zero.
    const Tensor found = memory_.ordered.RowSlice(0, hidden.rows);
    ISTHMUS_RETURN_IF_ERROR(EmbeddingForward({.ids = targets_.Row(kPlace, 0, hidden.rows),
                                              .table = memory_.grad_ordered.RowSlice(0, targets.count),
                                              .y = found},
                                             *stream_));
    return Add({.x = found, .y = batch->grad_hidden}, *stream_);
  }

  // Works on these places in the order. `part` is the first cluster's; it becomes the last one's.
  absl::Status SecondLevelChunk(Range places, const LevelTargets& targets, size_t& part, SoftmaxLoss& loss,
                                const HeadBatch* batch) {
    std::vector<SoftmaxChunk> chunks;
    std::vector<Range> rows;
    for (int64_t begin = places.begin; begin < places.end; ++part) {
      const auto& [cluster, own_places] = targets.parts[part];
      const int64_t end = std::min(own_places.end, places.end), tokens = end - begin;
      rows.push_back(rows_.members(cluster));
      chunks.push_back({.logits = loss.Logits(tokens, rows.back().size(), begin - places.begin),
                        .targets = targets_.Row(kMember, begin, tokens),
                        .first_class = levels_.first_member(cluster)});
      ISTHMUS_RETURN_IF_ERROR(
          rows_.Forward(rows.back(), memory_.ordered.RowSlice(begin, tokens), chunks.back().logits));
      begin = end;
      if (end == places.end) break;
    }
    ISTHMUS_RETURN_IF_ERROR(loss.Add(chunks));
    if (batch == nullptr) return absl::OkStatus();
    int64_t begin = places.begin;
    for (size_t i = 0; i < chunks.size(); ++i) {
      const int64_t tokens = chunks[i].logits.rows;
      ISTHMUS_ASSIGN_OR_RETURN(const Tensor gradient,
                               loss.Gradient(chunks[i], batch->scale, nullptr, begin - places.begin));
      ISTHMUS_RETURN_IF_ERROR(rows_.Backward(rows[i], gradient, memory_.ordered.RowSlice(begin, tokens),
                                             memory_.grad_ordered.RowSlice(begin, tokens)));
      begin += tokens;
    }
    return absl::OkStatus();
  }

  const PartSetting& setting_;
  const LossForm form_;
  const TwoLevels levels_;
  const std::vector<double> shares_;  // of the targets, by cluster
  PackedLevels rows_;
  StepLevelTargets targets_;
  ParameterHandle parameter_, cluster_parameter_;
  Linear tokens_of_rank_;  // U [V_i, D]
  const TensorRegion* region_ = nullptr;
  Stream* stream_ = nullptr;
  bool in_step_ = false;
  struct Memory {
    Tensor ordered, grad_ordered;  // [N, D] in the order of the clusters
    Tensor cluster_logits;         // [chunk, C_i]
  } memory_;
  std::optional<LevelJacobians> jacobians_;
};

std::string CheckHierarchical(const proto::ModelConfig& config) {
  if (HeadRankOf(config) != 0) {
    return absl::StrCat(HeadRankField(config), ": ", HeadRankOf(config), "; a head of kind hierarchical accepts 0");
  }
  const proto::HeadClustersConfig& clusters = config.head().clusters();
  if (clusters.kind() == kClustersByFrequency && clusters.count() == 1) {
    return "model.head.clusters.count: 1; a head of kind hierarchical with clusters by frequency has cluster 0 in its "
           "first level, and accepts 2 and more";
  }
  return config.tied_embeddings() ? "model.tied_embeddings: true; a head of kind hierarchical accepts false" : "";
}

}  // namespace

HeadKind HierarchicalHeadKind() {
  return {.name = "hierarchical",
          .make = [](const HeadRequest& request) { return std::make_unique<HierarchicalHead>(request); },
          .has_clusters = true,
          .title =
              [](const proto::ModelConfig& config) {
                return absl::StrCat("two levels of ", config.head().clusters().count(), " clusters");
              },
          .check = CheckHierarchical};
}

}  // namespace isthmus
