// The classes of a softmax in two levels: P(v) = P(cluster of v) · P(v | its cluster). The first level is over the
// clusters and over tokens that belong to none of them, the second over the tokens of one cluster.
//
// A tensor rank has the vocabulary rows of its shard, and its share of the clusters. So each rank has part of every
// level, and classes are numbered rank by rank. In a level, a rank's own tokens keep their order.
#ifndef ISTHMUS_MODEL_HEADS_LEVELS_TWO_LEVELS_H_
#define ISTHMUS_MODEL_HEADS_LEVELS_TWO_LEVELS_H_

#include <absl/types/span.h>

#include <cstdint>
#include <vector>

#include "parallel/shard.h"

namespace isthmus {

class TwoLevels {
 public:
  // clusters [V] has the cluster of each token, 0 … count - 1, or kNoCluster.
  static constexpr int32_t kNoCluster = -1;
  TwoLevels(absl::Span<const int32_t> clusters, int64_t count, int tensor_ranks, int tensor_rank);

  int64_t vocabulary() const { return static_cast<int64_t>(clusters_.size()); }
  int64_t clusters() const { return static_cast<int64_t>(members_.size()); }
  // Returns this rank's rows of the vocabulary.
  Range own_tokens() const { return own_tokens_; }
  // Returns the clusters that this rank has in the first level.
  Range own_clusters() const { return own_clusters_; }
  // Returns how many of this rank's tokens are in the first level themselves.
  int64_t own_singles() const { return own_singles_; }
  // Returns the number of this rank's first class in the first level. Its clusters come before its tokens.
  int64_t first_class() const { return first_class_; }
  int64_t first_level_classes() const { return first_level_classes_; }

  // Returns the rows of the vocabulary of this rank, ordered: those of the first level, then cluster by cluster.
  const std::vector<int32_t>& rows() const { return rows_; }
  // Returns where those of a cluster are in rows().
  Range rows_of(int64_t cluster) const { return own_members_[static_cast<size_t>(cluster)]; }
  // Returns the number of this rank's first class among those of a cluster.
  int64_t first_member(int64_t cluster) const { return first_members_[static_cast<size_t>(cluster)]; }
  // Returns the tokens of a cluster, over all ranks.
  int64_t members(int64_t cluster) const { return members_[static_cast<size_t>(cluster)]; }

  int32_t cluster_of(int32_t token) const { return clusters_[static_cast<size_t>(token)]; }
  // Returns the class of a token in the first level: itself, or its cluster.
  int32_t first_class_of(int32_t token) const { return first_classes_[static_cast<size_t>(token)]; }
  // Returns its class among the tokens of its cluster.
  int32_t member_of(int32_t token) const { return member_numbers_[static_cast<size_t>(token)]; }

 private:
  const std::vector<int32_t> clusters_;
  Range own_tokens_, own_clusters_;
  int64_t own_singles_ = 0, first_class_ = 0, first_level_classes_ = 0;
  std::vector<int32_t> rows_;
  std::vector<Range> own_members_;
  std::vector<int64_t> members_, first_members_;
  std::vector<int32_t> first_classes_, member_numbers_;  // [V]
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_HEADS_LEVELS_TWO_LEVELS_H_
