// The clusters of tokens that a head may need (model.head.clusters): their rules, and how they are made.
#ifndef ISTHMUS_MODEL_HEAD_CLUSTERS_H_
#define ISTHMUS_MODEL_HEAD_CLUSTERS_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>
#include <absl/types/span.h>

#include <cstdint>
#include <vector>

#include "proto/config.pb.h"
#include "runtime/config_rules.h"

namespace isthmus {

// Adds the rules of where clusters come from: their kind, and a file for kind file and only then. It is called for a
// head that passed CheckHead.
void CheckClusterSource(const proto::RunConfig& config, ConfigRules& rules);
// Adds the rule of their number, for a head with clusters and a known vocabulary.
void CheckClusterCount(const proto::ModelConfig& model, ConfigRules& rules);

// Makes the clusters of a resolved configuration with a known vocabulary, [V]; none for a head that needs none. A file
// has those of the `tokens` tokens that the data have. A larger model has rows of no token, which go to the clusters in
// turn. `counts` [V] says how often each token occurs, for clusters by frequency. Errors: those of ReadTokenClusters.
absl::StatusOr<std::vector<int32_t>> MakeClusters(const proto::RunConfig& config, int64_t tokens,
                                                  absl::Span<const uint64_t> counts);

// Is called once clusters are known, and writes their number to a configuration that leaves it open. Without clusters
// it changes nothing. Errors: InvalidArgument "source: field: …" if the configuration states another number.
absl::Status ResolveClusters(proto::RunConfig& config, absl::Span<const int32_t> clusters, absl::string_view source);

// Checks that clusters are those of a resolved model: one for each row of the vocabulary, each below their number. A
// head without clusters takes any. Errors: InvalidArgument.
absl::Status CheckClusters(const proto::ModelConfig& model, absl::Span<const int32_t> clusters);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_HEAD_CLUSTERS_H_
