#include "model/head_clusters.h"

#include <absl/algorithm/container.h>
#include <absl/strings/str_cat.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

#include "model/heads/heads.h"
#include "runtime/data/equal_clusters.h"
#include "runtime/data/frequency_clusters.h"
#include "runtime/data/token_cluster_file.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr char kCountField[] = "model.head.clusters.count";

// Kinds of model.head.clusters.
constexpr char kOfFile[] = "file", kInOrder[] = "order", kShuffled[] = "random";

std::string InQuotes(absl::string_view text) { return absl::StrCat("\"", text, "\""); }

// Adds the rule that no level of a head of two levels has more classes than are allowed.
void CheckLevels(const proto::HeadClustersConfig& head, absl::Span<const int32_t> clusters, ConfigRules& rules) {
  if (head.most_classes() == 0) return;
  std::vector<int64_t> sizes(static_cast<size_t>(head.count()));
  for (const int32_t cluster : clusters) ++sizes[static_cast<size_t>(cluster)];
  int64_t first_level = head.count();
  if (head.kind() == kClustersByFrequency) {
    first_level += sizes[0] - 1;
    sizes[0] = 0;
  }
  const int64_t tokens = *absl::c_max_element(sizes), largest = std::max(first_level, tokens);
  rules.Require(largest <= head.most_classes(), "model.head.clusters.most_classes", head.most_classes(),
                absl::StrCat("the first level has ", first_level, " classes, and the largest cluster ", tokens,
                             " tokens; set another model.head.clusters.count, or accept ", largest));
}

}  // namespace

void CheckClusterSource(const proto::RunConfig& config, ConfigRules& rules) {
  const proto::HeadClustersConfig& clusters = config.model().head().clusters();
  const std::string& kind = clusters.kind();
  const std::string file = InQuotes(config.data().token_clusters());
  const bool has_file = !config.data().token_clusters().empty();
  rules.Within(0, std::numeric_limits<int32_t>::max(), kCountField, clusters.count());
  rules.Within(0, std::numeric_limits<int32_t>::max(), "model.head.clusters.most_classes", clusters.most_classes());
  rules.Require(kind == kOfFile || kind == kInOrder || kind == kShuffled || kind == kClustersByFrequency,
                "model.head.clusters.kind", InQuotes(kind), "accepts file, order, random, frequency");
  const double growth = clusters.growth();
  rules.Require(growth >= 1 && std::isfinite(growth), "model.head.clusters.growth", growth, "accepts 1 and more");
  if (!HeadHasClusters(config.model())) {
    const std::string none = absl::StrCat("the ", HeadTitle(config.model()),
                                          " has no clusters; leave it unset, or choose another model.head.kind");
    const proto::HeadClustersConfig unset;
    rules.Require(kind == unset.kind(), "model.head.clusters.kind", InQuotes(kind), none);
    rules.Require(clusters.count() == 0, kCountField, clusters.count(), none);
    rules.Require(growth == unset.growth(), "model.head.clusters.growth", growth, none);
    rules.Require(clusters.most_classes() == 0, "model.head.clusters.most_classes", clusters.most_classes(), none);
    rules.Require(!has_file, "data.token_clusters", file,
                  absl::StrCat("the ", HeadTitle(config.model()),
                               " has no clusters; leave it empty, or choose another ", "model.head.kind"));
    return;
  }
  if (kind == kOfFile) {
    rules.Require(
        has_file, "data.token_clusters", file,
        "model.head.clusters.kind file needs the cluster of each token, int32 [V] in a .npy file, as `isthmus "
        "tokenizer cluster` makes it");
    return;
  }
  rules.Require(!has_file, "data.token_clusters", file,
                absl::StrCat("model.head.clusters.kind ", kind, " reads no file; leave it empty, or choose kind file"));
  rules.Require(clusters.count() != 0, kCountField, clusters.count(),
                absl::StrCat("model.head.clusters.kind ", kind, " needs a number of clusters, 1 to the vocabulary"));
}

void CheckClusterCount(const proto::ModelConfig& model, ConfigRules& rules) {
  const proto::HeadClustersConfig& clusters = model.head().clusters();
  // The file may decide it later; other kinds must state it.
  if (HeadHasClusters(model) && clusters.count() != 0) {
    rules.Within(1, model.vocabulary(), kCountField, clusters.count());
  }
}

absl::StatusOr<std::vector<int32_t>> MakeClusters(const proto::RunConfig& config, int64_t tokens,
                                                  absl::Span<const uint64_t> counts) {
  const proto::HeadClustersConfig& head = config.model().head().clusters();
  const int64_t vocabulary = config.model().vocabulary();
  if (!HeadHasClusters(config.model())) return std::vector<int32_t>();
  if (head.kind() == kInOrder) return OrderedClusters(vocabulary, head.count());
  if (head.kind() == kClustersByFrequency) return FrequencyClusters(counts, head.count(), head.growth());
  if (head.kind() == kShuffled) return ShuffledClusters(vocabulary, head.count(), config.seed());
  ISTHMUS_ASSIGN_OR_RETURN(std::vector<int32_t> clusters, ReadTokenClusters(config.data().token_clusters(), tokens));
  const int32_t count = *absl::c_max_element(clusters) + 1;
  for (int64_t row = tokens; row < vocabulary; ++row) clusters.push_back(static_cast<int32_t>(row % count));
  return clusters;
}

absl::Status ResolveClusters(proto::RunConfig& config, absl::Span<const int32_t> clusters, absl::string_view source) {
  if (clusters.empty()) return absl::OkStatus();
  proto::HeadClustersConfig& head = *config.mutable_model()->mutable_head()->mutable_clusters();
  const int64_t count = int64_t{*absl::c_max_element(clusters)} + 1;
  if (head.count() == 0) head.set_count(count);
  ConfigRules rules(source);
  rules.Require(head.count() == count, kCountField, head.count(),
                absl::StrCat("data.token_clusters has ", count, " clusters; set 0 or ", count));
  ISTHMUS_RETURN_IF_ERROR(rules.status());
  ISTHMUS_RETURN_IF_ERROR(CheckClusters(config.model(), clusters));
  CheckLevels(head, clusters, rules);
  return rules.status();
}

absl::Status CheckClusters(const proto::ModelConfig& model, absl::Span<const int32_t> clusters) {
  if (!HeadHasClusters(model)) return absl::OkStatus();
  const int64_t count = model.head().clusters().count();
  if (static_cast<int64_t>(clusters.size()) != model.vocabulary()) {
    return absl::InvalidArgumentError(absl::StrCat("clusters of ", clusters.size(),
                                                   " tokens; the model needs those of model.vocabulary (",
                                                   model.vocabulary(), ")"));
  }
  for (size_t token = 0; token < clusters.size(); ++token) {
    if (clusters[token] >= 0 && clusters[token] < count) continue;
    return absl::InvalidArgumentError(absl::StrCat("token ", token, " is of cluster ", clusters[token],
                                                   "; accepts 0 to model.head.clusters.count - 1 (", count - 1, ")"));
  }
  return absl::OkStatus();
}

}  // namespace isthmus
