// The targets of a micro-batch, as a softmax in two levels needs them.
#ifndef ISTHMUS_MODEL_HEADS_LEVELS_LEVEL_TARGETS_H_
#define ISTHMUS_MODEL_HEADS_LEVELS_LEVEL_TARGETS_H_

#include <absl/status/status.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "model/heads/levels/two_levels.h"
#include "model/part_setting.h"
#include "parallel/shard.h"
#include "runtime/arena.h"
#include "runtime/host_buffer.h"
#include "runtime/stream.h"
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

// The targets of a step: of all micro-batches in host memory, and of one on the device.
class StepLevelTargets {
 public:
  // Both must outlive it.
  StepLevelTargets(const PartSetting& setting, const TwoLevels& levels) : setting_(setting), levels_(levels) {}

  void Place(TensorPlacer& placer);
  // Orders the targets of all micro-batches, int32 [1 + K, n] in host memory. Where nothing is computed nobody knows
  // them, and they are spread evenly over the vocabulary.
  absl::Status Take(const Tensor& targets, const Stream& stream);
  // Brings those of the micro-batch that begins with the element `begin` to the device, in the order of the stream.
  absl::Status Put(int64_t begin, const Stream& stream);

  // Return what belongs to that micro-batch of N tokens: its order, and `count` of a row's numbers, int32 [1, count].
  const LevelTargets& order() const { return orders_[static_cast<size_t>(micro_batch_)]; }
  Tensor Row(LevelRow row, int64_t begin, int64_t count) const {
    return put_.RowSlice(row, 1).ColumnSlice(begin, count);
  }

 private:
  const PartSetting& setting_;
  const TwoLevels& levels_;
  HostBuffer staging_;
  Tensor host_;  // int32 [kLevelRows · micro-batches, N] in host memory
  std::vector<LevelTargets> orders_;
  int64_t micro_batch_ = 0;
  Tensor memory_, put_;  // int32 [kLevelRows, N] on the device; `put_` has the tokens of this micro-batch
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_HEADS_LEVELS_LEVEL_TARGETS_H_
