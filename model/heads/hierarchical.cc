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
// The logits of both levels are linear in h. Which of them a token has depends on its target, so that there is no one
// matrix W, and the decomposition says so.
#include <absl/strings/str_cat.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "model/algebra/host_copy.h"
#include "model/algebra/matrix.h"
#include "model/heads/heads.h"
#include "model/heads/levels/level_probabilities.h"
#include "model/heads/levels/level_targets.h"
#include "model/heads/levels/two_levels.h"
#include "model/heads/vocabulary_product.h"
#include "ops/elementwise.h"
#include "ops/embedding.h"
#include "runtime/data/equal_clusters.h"
#include "runtime/data/frequency_clusters.h"
#include "runtime/device.h"
#include "runtime/host_buffer.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

// So many rows of the gradient are put in their places at once.
constexpr int64_t kRowsAtOnce = 1024;

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
        levels_(LevelsOf(request)),
        shares_(SharesOf(levels_, request.tables.counts)),
        product_(setting_, setting_.width) {}

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
    const int64_t width = setting_.width, tokens = setting_.batch.tokens(), rows = packed_rows();
    product_.Place(chunk, placer);
    packed_ = placer.Place("head.packed", setting_.type, rows, width);
    row_ids_ = placer.Place("head.packed_ids", DType::kInt32, 1, own().size());
    targets_ = placer.Place("head.level_targets", DType::kInt32, kLevelRows, tokens);
    ordered_ = placer.Place("head.ordered_hidden", setting_.type, tokens, width);
    cluster_logits_ = placer.Place("head.cluster_logits", setting_.sum_type(), chunk, levels_.own_clusters().size());
    if (!setting_.training) return;
    packed_gradient_ = placer.Place("head.packed_gradient", setting_.sum_type(), rows, width);
    grad_ordered_ = placer.Place("head.grad_ordered", setting_.type, tokens, width);
    row_places_ = placer.Place("head.packed_places", DType::kInt32, 1, own().size());
    found_gradient_ =
        placer.Place("head.found_gradient", setting_.sum_type(), std::min(kRowsAtOnce, own().size()), width);
  }
  void Bind(const ParameterStore& parameters, const TensorRegion& region, Stream& stream) override {
    parameters_ = &parameters;
    region_ = &region;
    stream_ = &stream;
    in_step_ = ids_placed_ = false;
  }

  absl::Status BeginStep(const HeadStep& step) override {
    ISTHMUS_RETURN_IF_ERROR(TakeTargets(step.targets));
    in_step_ = true;
    return Pack();
  }

  absl::Status Train(const HeadBatch& batch, SoftmaxLoss& loss) override {
    if (!in_step_) ISTHMUS_RETURN_IF_ERROR(BeginAlone(batch.targets));
    ISTHMUS_RETURN_IF_ERROR(PlaceTargets(batch.begin));
    ISTHMUS_RETURN_IF_ERROR(SetZero({.x = packed_gradient_}, *stream_));
    ISTHMUS_RETURN_IF_ERROR(FirstLevel(batch.hidden, loss, &batch));
    ISTHMUS_RETURN_IF_ERROR(SecondLevel(batch.hidden, loss, &batch));
    ISTHMUS_RETURN_IF_ERROR(AddGradients());
    return region_->Leave(batch.grad_hidden, region_->LocalPart(batch.grad_hidden));
  }
  // The sizes of its work follow from the targets.
  bool capturable() const override { return false; }

  absl::Status Evaluate(const Tensor& hidden, const Tensor& targets, SoftmaxLoss& loss) override {
    ISTHMUS_RETURN_IF_ERROR(BeginAlone(targets));
    ISTHMUS_RETURN_IF_ERROR(PlaceTargets(0));
    ISTHMUS_RETURN_IF_ERROR(FirstLevel(hidden, loss, nullptr));
    return SecondLevel(hidden, loss, nullptr);
  }

  absl::Status Begin(const Tensor& /*hidden*/) override { return Pack(); }
  // Computes log P(v | h), whose log-sum-exp is 0. The host does all but the products.
  absl::Status Logits(const Tensor& hidden, int64_t begin, const Tensor& logits) override {
    const int64_t tokens = logits.rows, own_clusters = levels_.own_clusters().size();
    const Tensor rows = hidden.RowSlice(begin, tokens), cluster_logits = cluster_logits_.RowSlice(0, tokens);
    const Linear tokens_of_rank = {parameters_->Weight(parameter_), Tensor()};
    ISTHMUS_RETURN_IF_ERROR(tokens_of_rank.Forward(rows, logits, *stream_));
    if (own_clusters > 0) {
      const Linear clusters = {packed_.RowSlice(0, own_clusters), Tensor()};
      ISTHMUS_RETURN_IF_ERROR(clusters.Forward(rows, cluster_logits, *stream_));
    }
    if (stream_->dry()) return absl::OkStatus();
    ISTHMUS_ASSIGN_OR_RETURN(const Matrix found_clusters, HostCopy(cluster_logits, *stream_));
    Matrix found(tokens, logits.columns);
    for (int64_t n = 0; n < tokens; ++n) {
      ISTHMUS_ASSIGN_OR_RETURN(found.row(n), HostCopy(logits.RowSlice(n, 1), *stream_));
    }
    ISTHMUS_RETURN_IF_ERROR(ToLogProbabilities(levels_, found_clusters, found, region_->tensor()));
    for (int64_t n = 0; n < tokens; ++n) {
      ISTHMUS_RETURN_IF_ERROR(CopyToTensor(found.row(n), logits.RowSlice(n, 1), *stream_));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<HeadView> View() override { return HeadView{.not_linear = kLevels}; }
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
  Range own() const { return levels_.own_tokens(); }
  // Packed are this rank's clusters, then its tokens as TwoLevels orders them.
  int64_t packed_rows() const { return levels_.own_clusters().size() + own().size(); }
  int64_t first_level_rows() const { return levels_.own_clusters().size() + levels_.own_singles(); }
  Tensor PackedTokens(const Tensor& packed) const {
    return packed.RowSlice(levels_.own_clusters().size(), own().size());
  }

  absl::Status Pack() {
    if (!ids_placed_) {
      std::vector<int32_t> ids = levels_.rows();
      ISTHMUS_RETURN_IF_ERROR(CopyFromHost(Tensor(ids.data(), DType::kInt32, 1, own().size()), row_ids_, *stream_));
      if (row_places_.defined()) {
        std::vector<int32_t> places(ids.size());
        for (size_t i = 0; i < ids.size(); ++i) {
          places[static_cast<size_t>(ids[i] - own().begin)] = static_cast<int32_t>(i);
        }
        const Tensor host(places.data(), DType::kInt32, 1, own().size());
        ISTHMUS_RETURN_IF_ERROR(CopyFromHost(host, row_places_, *stream_));
      }
      ids_placed_ = true;
    }
    const int64_t own_clusters = levels_.own_clusters().size();
    if (own_clusters > 0) {
      ISTHMUS_RETURN_IF_ERROR(
          Cast({.x = parameters_->Weight(cluster_parameter_), .y = packed_.RowSlice(0, own_clusters)}, *stream_));
    }
    return EmbeddingForward({.ids = row_ids_,
                             .table = parameters_->Weight(parameter_),
                             .first_row = own().begin,
                             .y = PackedTokens(packed_)},
                            *stream_);
  }

  // Begins a micro-batch that belongs to no step. Waits for the stream.
  absl::Status BeginAlone(const Tensor& targets) {
    std::vector<int32_t> host(static_cast<size_t>(targets.size()));
    const Tensor copy(host.data(), DType::kInt32, 1, targets.size());
    ISTHMUS_RETURN_IF_ERROR(CopyToHost(targets, copy, *stream_));
    ISTHMUS_RETURN_IF_ERROR(TakeTargets(copy));
    in_step_ = false;
    return Pack();
  }

  // Orders the targets of all micro-batches.
  absl::Status TakeTargets(const Tensor& targets) {
    const int64_t all = targets.size(), tokens = std::min(all, setting_.batch.tokens());
    ISTHMUS_ASSIGN_OR_RETURN(host_targets_,
                             staging_.Room(DType::kInt32, kLevelRows * (all / tokens), tokens, *stream_));
    std::vector<int32_t> even;
    const int32_t* ids = targets.As<const int32_t>();
    if (stream_->dry()) {  // nobody knows the targets
      for (int64_t n = 0; n < all; ++n) even.push_back(static_cast<int32_t>(n * setting_.vocabulary / all));
      ids = even.data();
    }
    ordered_targets_.clear();
    for (int64_t begin = 0; begin < all; begin += tokens) {
      const Tensor rows = host_targets_.RowSlice(kLevelRows * (begin / tokens), kLevelRows);
      ordered_targets_.push_back(OrderTargets(levels_, ids + begin, rows));
    }
    return absl::OkStatus();
  }

  // Places those of the micro-batch that begins with the token `begin`.
  absl::Status PlaceTargets(int64_t begin) {
    micro_batch_ = begin / host_targets_.columns;
    const Tensor rows = host_targets_.RowSlice(kLevelRows * micro_batch_, kLevelRows);
    placed_ = Tensor(targets_.data, DType::kInt32, kLevelRows, rows.columns);
    return StartCopyFromHost(rows, placed_, *stream_);
  }

  // Works on the first level of all tokens. Without `batch` there are no gradients.
  absl::Status FirstLevel(const Tensor& hidden, SoftmaxLoss& loss, const HeadBatch* batch) {
    const int64_t classes = first_level_rows();
    return loss.ForChunks(hidden.rows, [&](int64_t begin, int64_t tokens) -> absl::Status {
      const SoftmaxChunk chunk = {.logits = loss.Logits(tokens, classes),
                                  .targets = placed_.RowSlice(kFirstClass, 1).ColumnSlice(begin, tokens),
                                  .first_class = levels_.first_class()};
      const Tensor rows = hidden.RowSlice(begin, tokens);
      ISTHMUS_RETURN_IF_ERROR(Forward({0, classes}, rows, chunk.logits));
      ISTHMUS_RETURN_IF_ERROR(loss.Add(chunk));
      if (batch == nullptr) return absl::OkStatus();
      ISTHMUS_ASSIGN_OR_RETURN(const Tensor gradient, loss.Gradient(chunk, batch->scale, nullptr));
      return Backward({0, classes}, gradient, rows, batch->grad_hidden.RowSlice(begin, tokens));
    });
  }

  // Works on the second level, in the order of the clusters.
  absl::Status SecondLevel(const Tensor& hidden, SoftmaxLoss& loss, const HeadBatch* batch) {
    const LevelTargets& targets = ordered_targets_[static_cast<size_t>(micro_batch_)];
    if (targets.count == 0) {
      return absl::OkStatus();
    }
    const Tensor ordered = ordered_.RowSlice(0, targets.count);
    ISTHMUS_RETURN_IF_ERROR(EmbeddingForward(
        {.ids = placed_.RowSlice(kOrder, 1).ColumnSlice(0, targets.count), .table = hidden, .y = ordered}, *stream_));
    size_t part = 0;
    for (int64_t begin = 0; begin < targets.count; begin += loss.chunk()) {
      const int64_t end = std::min(begin + loss.chunk(), targets.count);
      if (targets.parts[part].places.end <= begin) ++part;
      ISTHMUS_RETURN_IF_ERROR(SecondLevelChunk({begin, end}, targets, part, loss, batch));
    }
    if (batch == nullptr) return absl::OkStatus();
    // Each token's gradient goes back to its place; those without a second level read as zero.
    const Tensor found = ordered_.RowSlice(0, hidden.rows);
    ISTHMUS_RETURN_IF_ERROR(EmbeddingForward(
        {.ids = placed_.RowSlice(kPlace, 1), .table = grad_ordered_.RowSlice(0, targets.count), .y = found}, *stream_));
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
      const Range members = levels_.rows_of(cluster);
      const int64_t offset = levels_.own_clusters().size();
      rows.push_back({offset + members.begin, offset + members.end});
      chunks.push_back({.logits = loss.Logits(tokens, members.size(), begin - places.begin),
                        .targets = placed_.RowSlice(kMember, 1).ColumnSlice(begin, tokens),
                        .first_class = levels_.first_member(cluster)});
      ISTHMUS_RETURN_IF_ERROR(Forward(rows.back(), ordered_.RowSlice(begin, tokens), chunks.back().logits));
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
      ISTHMUS_RETURN_IF_ERROR(
          Backward(rows[i], gradient, ordered_.RowSlice(begin, tokens), grad_ordered_.RowSlice(begin, tokens)));
      begin += tokens;
    }
    return absl::OkStatus();
  }

  // Products with packed rows. A rank may have none of a level.
  absl::Status Forward(Range rows, const Tensor& x, const Tensor& logits) {
    if (rows.size() == 0) return absl::OkStatus();
    return Linear{packed_.RowSlice(rows.begin, rows.size()), Tensor()}.Forward(x, logits, *stream_);
  }
  absl::Status Backward(Range rows, const Tensor& gradient, const Tensor& x, const Tensor& grad_x) {
    if (rows.size() == 0) return SetZero({.x = grad_x}, *stream_);
    product_.Bind(packed_.RowSlice(rows.begin, rows.size()), packed_gradient_.RowSlice(rows.begin, rows.size()));
    return product_.Backward(gradient, x, grad_x, Tensor(), *stream_);
  }

  // Adds the gradients of packed rows to those of the parameters.
  absl::Status AddGradients() {
    const int64_t own_clusters = levels_.own_clusters().size();
    if (own_clusters > 0) {
      ISTHMUS_RETURN_IF_ERROR(Add(
          {.x = packed_gradient_.RowSlice(0, own_clusters), .y = parameters_->Gradient(cluster_parameter_)}, *stream_));
    }
    // Each row has one place, so that nothing has to be searched.
    const Tensor all = parameters_->Gradient(parameter_);
    for (int64_t begin = 0; begin < all.rows; begin += kRowsAtOnce) {
      const int64_t count = std::min(kRowsAtOnce, all.rows - begin);
      const Tensor found = found_gradient_.RowSlice(0, count);
      ISTHMUS_RETURN_IF_ERROR(EmbeddingForward(
          {.ids = row_places_.ColumnSlice(begin, count), .table = PackedTokens(packed_gradient_), .y = found},
          *stream_));
      ISTHMUS_RETURN_IF_ERROR(Add({.x = found, .y = all.RowSlice(begin, count)}, *stream_));
    }
    return absl::OkStatus();
  }

  const PartSetting& setting_;
  const TwoLevels levels_;
  const std::vector<double> shares_;  // of the targets, by cluster
  VocabularyProduct product_;
  ParameterHandle parameter_, cluster_parameter_;
  const ParameterStore* parameters_ = nullptr;
  const TensorRegion* region_ = nullptr;
  Stream* stream_ = nullptr;
  bool in_step_ = false, ids_placed_ = false;
  HostBuffer staging_;
  Tensor host_targets_;  // int32 [kLevelRows · micro-batches, N] in host memory
  std::vector<LevelTargets> ordered_targets_;
  int64_t micro_batch_ = 0;
  Tensor targets_, placed_;          // int32 [kLevelRows, N]; those of this micro-batch
  Tensor row_ids_, row_places_;      // int32 [1, V_i]: the row of each place, and the place of each row
  Tensor found_gradient_;            // [kRowsAtOnce, D]
  Tensor packed_, packed_gradient_;  // [C_i + V_i, D]
  Tensor ordered_, grad_ordered_;    // [N, D] in the order of the clusters
  Tensor cluster_logits_;            // [chunk, C_i]
};

std::string CheckHierarchical(const proto::ModelConfig& config) {
  if (HeadRankOf(config) != 0) {
    return absl::StrCat(HeadRankField(config), ": ", HeadRankOf(config), "; a head of kind hierarchical accepts 0");
  }
  const proto::HeadClustersConfig& clusters = config.head().clusters();
  if (clusters.kind() == kClustersByFrequency && clusters.count() == 1) {
    return "model.head.clusters.count: 1; a head of kind hierarchical with clusters by frequency has cluster 0 in its "
           "first "
           "level, and accepts 2 and more";
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
