// The targets of a micro-batch, as a softmax in two levels needs them.
#ifndef ISTHMUS_MODEL_HEADS_LEVELS_LEVEL_TARGETS_H_
#define ISTHMUS_MODEL_HEADS_LEVELS_LEVEL_TARGETS_H_

#include <cstdint>
#include <vector>

#include "model/heads/levels/two_levels.h"
#include "parallel/shard.h"
#include "runtime/tensor.h"

namespace isthmus {

// Rows of the int32 matrix that OrderTargets fills, [kLevelRows, N].
enum LevelRow : uint8_t {
  kFirstClass,  // of each token, its class in the first level
  // The tokens of the second level, cluster by cluster; those that have none are not among them.
  kOrder,   // of each place in that order, the token
  kMember,  // of each place in that order, the class among the tokens of its cluster
  kPlace,   // of each token, its place in that order, or -1
  kLevelRows
};

struct LevelTargets {
  // These places in the order belong to one cluster.
  struct Part {
    int64_t cluster = 0;
    Range places;
  };
  std::vector<Part> parts;  // of the clusters that occur, ascending
  int64_t count = 0;        // tokens of the second level
};

// targets: N tokens of the vocabulary. rows: int32 [kLevelRows, N] in host memory, contiguous; rows kOrder and kMember
// are filled up to `count`. Tokens of one cluster keep their order.
LevelTargets OrderTargets(const TwoLevels& levels, const int32_t* targets, const Tensor& rows);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_HEADS_LEVELS_LEVEL_TARGETS_H_
