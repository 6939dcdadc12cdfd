// The division of a dimension among ranks.
#ifndef ISTHMUS_PARALLEL_SHARD_H_
#define ISTHMUS_PARALLEL_SHARD_H_

#include <cstdint>

namespace isthmus {

struct Range {
  int64_t begin = 0;
  int64_t end = 0;
  constexpr int64_t size() const { return end - begin; }
  constexpr bool Contains(int64_t i) const { return i >= begin && i < end; }
  friend constexpr bool operator==(const Range&, const Range&) = default;
};

// Part `index` of [0, count), cut into `parts` contiguous pieces whose sizes differ by one at most. The first count mod
// parts pieces are the longer ones. Pieces may be empty.
constexpr Range ShardOf(int64_t count, int parts, int index) {
  const int64_t base = count / parts, extra = count % parts;
  const int64_t begin = base * index + (index < extra ? index : extra);
  return {begin, begin + base + (index < extra ? 1 : 0)};
}

}  // namespace isthmus

#endif  // ISTHMUS_PARALLEL_SHARD_H_
