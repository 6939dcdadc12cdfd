// Counts how often one token follows another in token shards.
#ifndef ISTHMUS_RUNTIME_DATA_BIGRAM_COUNTS_H_
#define ISTHMUS_RUNTIME_DATA_BIGRAM_COUNTS_H_

#include <absl/status/statusor.h>

#include <cstdint>

#include "runtime/data/sparse_counts.h"
#include "runtime/data/token_dataset.h"

namespace isthmus {

// The most tokens that are counted, so that no count overflows.
inline constexpr int64_t kMostBigrams = 4'000'000'000;

struct BigramSampling {
  int64_t tokens = kMostBigrams;  // if there are more, about so many are read: blocks chosen at random
  uint64_t seed = 1;              // of the choice
};

// Element [next, previous] of both matrices says how often `next` came right after `previous` in one document; [V, V].
struct CorpusBigrams {
  SparseCounts training;
  SparseCounts held_out;  // of one block in sixteen, for judging what was learned from `training`
};

// Reads the shards once, from front to back. They are cut into blocks of 4096 tokens, or less in a small corpus. Memory:
// some 40 bytes for each different pair. The result does not depend on the number of threads.
//
// Errors: those of TokenShard; InvalidArgument if no token follows another in a document.
absl::StatusOr<CorpusBigrams> CountBigrams(const TokenDataset& dataset, const BigramSampling& sampling);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_DATA_BIGRAM_COUNTS_H_
