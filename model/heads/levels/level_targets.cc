#include "model/heads/levels/level_targets.h"

#include <algorithm>

#include "runtime/device.h"
#include "runtime/status.h"

namespace isthmus {

LevelTargets OrderTargets(const TwoLevels& levels, const int32_t* targets, const Tensor& rows) {
  const int64_t tokens = rows.columns;
  int32_t *first_class = rows.Row<int32_t>(kFirstClass), *order = rows.Row<int32_t>(kOrder),
          *member = rows.Row<int32_t>(kMember), *place = rows.Row<int32_t>(kPlace);
  std::vector<int64_t> ends(static_cast<size_t>(levels.clusters()) + 1);  // where the next token of a cluster goes
  for (int64_t n = 0; n < tokens; ++n) {
    const int32_t cluster = levels.cluster_of(targets[n]);
    first_class[n] = levels.first_class_of(targets[n]);
    if (cluster != TwoLevels::kNoCluster) ++ends[static_cast<size_t>(cluster) + 1];
  }
  LevelTargets result;
  for (int64_t cluster = 0; cluster < levels.clusters(); ++cluster) {
    const int64_t count = ends[static_cast<size_t>(cluster) + 1];
    ends[static_cast<size_t>(cluster) + 1] = result.count + count;
    if (count > 0) result.parts.push_back({cluster, {result.count, result.count + count}});
    result.count += count;
  }
  for (int64_t n = 0; n < tokens; ++n) {
    const int32_t cluster = levels.cluster_of(targets[n]);
    place[n] = -1;
    if (cluster == TwoLevels::kNoCluster) continue;
    const int64_t next = ends[static_cast<size_t>(cluster)]++;
    place[n] = static_cast<int32_t>(next);
    order[next] = static_cast<int32_t>(n);
    member[next] = levels.member_of(targets[n]);
  }
  return result;
}

void StepLevelTargets::Place(TensorPlacer& placer) {
  memory_ = placer.Place("head.level_targets", DType::kInt32, kLevelRows, setting_.batch.tokens());
}

absl::Status StepLevelTargets::Take(const Tensor& targets, const Stream& stream) {
  const int64_t all = targets.size(), tokens = std::min(all, setting_.batch.tokens());
  ISTHMUS_ASSIGN_OR_RETURN(host_, staging_.Room(DType::kInt32, kLevelRows * (all / tokens), tokens, stream));
  std::vector<int32_t> even;
  const int32_t* ids = targets.As<const int32_t>();
  if (stream.dry()) {
    for (int64_t n = 0; n < all; ++n) even.push_back(static_cast<int32_t>(n * setting_.vocabulary / all));
    ids = even.data();
  }
  orders_.clear();
  for (int64_t begin = 0; begin < all; begin += tokens) {
    const Tensor rows = host_.RowSlice(kLevelRows * (begin / tokens), kLevelRows);
    orders_.push_back(OrderTargets(levels_, ids + begin, rows));
  }
  return absl::OkStatus();
}

absl::Status StepLevelTargets::Put(int64_t begin, const Stream& stream) {
  micro_batch_ = begin / host_.columns;
  const Tensor rows = host_.RowSlice(kLevelRows * micro_batch_, kLevelRows);
  put_ = Tensor(memory_.data, DType::kInt32, kLevelRows, rows.columns);
  return StartCopyFromHost(rows, put_, stream);
}

}  // namespace isthmus
