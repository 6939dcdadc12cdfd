#include "model/heads/levels/two_levels.h"

#include <cstddef>

namespace isthmus {

TwoLevels::TwoLevels(absl::Span<const int32_t> clusters, int64_t count, int tensor_ranks, int tensor_rank)
    : clusters_(clusters.begin(), clusters.end()),
      own_tokens_(ShardOf(static_cast<int64_t>(clusters.size()), tensor_ranks, tensor_rank)),
      own_clusters_(ShardOf(count, tensor_ranks, tensor_rank)),
      members_(static_cast<size_t>(count)),
      first_members_(static_cast<size_t>(count)),
      first_classes_(clusters.size()),
      member_numbers_(clusters.size(), 0) {
  const auto vocabulary = static_cast<int64_t>(clusters.size());
  const Range own = own_tokens_;
  // Members are counted in the order of the vocabulary, which is that of the ranks.
  for (int32_t token = 0; token < static_cast<int32_t>(vocabulary); ++token) {
    if (token == own.begin) first_members_ = members_;
    if (cluster_of(token) == kNoCluster) continue;
    int64_t& number = members_[static_cast<size_t>(cluster_of(token))];
    member_numbers_[static_cast<size_t>(token)] = static_cast<int32_t>(number++);
  }
  std::vector<int32_t> class_of_cluster(static_cast<size_t>(count));
  int32_t next = 0;
  for (int rank = 0; rank < tensor_ranks; ++rank) {
    if (rank == tensor_rank) first_class_ = next;
    const Range part = ShardOf(count, tensor_ranks, rank), rows = ShardOf(vocabulary, tensor_ranks, rank);
    for (int64_t cluster = part.begin; cluster < part.end; ++cluster) {
      class_of_cluster[static_cast<size_t>(cluster)] = next++;
    }
    for (int64_t token = rows.begin; token < rows.end; ++token) {
      if (clusters_[static_cast<size_t>(token)] == kNoCluster) first_classes_[static_cast<size_t>(token)] = next++;
    }
  }
  first_level_classes_ = next;
  std::vector<std::vector<int32_t>> own_members(static_cast<size_t>(count));
  for (int32_t token = 0; token < static_cast<int32_t>(vocabulary); ++token) {
    const bool is_own = token >= own.begin && token < own.end;
    if (const int32_t cluster = cluster_of(token); cluster != kNoCluster) {
      first_classes_[static_cast<size_t>(token)] = class_of_cluster[static_cast<size_t>(cluster)];
      if (is_own) own_members[static_cast<size_t>(cluster)].push_back(token);
    } else if (is_own) {
      rows_.push_back(token);
    }
  }
  own_singles_ = static_cast<int64_t>(rows_.size());
  for (const std::vector<int32_t>& members : own_members) {
    const auto begin = static_cast<int64_t>(rows_.size());
    rows_.insert(rows_.end(), members.begin(), members.end());
    own_members_.push_back({begin, static_cast<int64_t>(rows_.size())});
  }
}

}  // namespace isthmus
