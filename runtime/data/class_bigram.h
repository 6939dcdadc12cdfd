// Judges clusters of the vocabulary by the loss of a class bigram model.
#ifndef ISTHMUS_RUNTIME_DATA_CLASS_BIGRAM_H_
#define ISTHMUS_RUNTIME_DATA_CLASS_BIGRAM_H_

#include <absl/types/span.h>

#include <cstdint>
#include <vector>

#include "runtime/data/bigram_counts.h"
#include "runtime/data/sparse_counts.h"

namespace isthmus {

// The model predicts the cluster c of the next token v from the previous token u, then v from c alone (Brown et al.
// 1992, "Class-based n-gram models of natural language"). u is not replaced by its cluster:
//
//   p(v | u) = p(c | u) · p(v | c)
//   p(c | u) = (N(u, c) + D(u) · p(c)) / (N(u) + D(u))
//   p(v | c) = (N(v) + ½) / (N(c) + |c|/2),   p(c) = (N(c) + |c|/2) / (N + V/2)
//
// N are counts of the training part, |c| is the number of tokens in a cluster, and D(u) counts the clusters that follow
// u (Witten and Bell 1991). With a single cluster p is the distribution of tokens alone, for any u.
class ClassBigram {
 public:
  explicit ClassBigram(const CorpusBigrams& bigrams);

  // Number of held-out pairs. Without any there is no loss.
  double held_out_pairs() const { return held_out_pairs_; }

  // Returns the loss on the held-out pairs, in nats per token; 0 without any. Values of `cluster_of` [V] are 0 to
  // clusters − 1. The number of threads does not change its bits.
  double Loss(absl::Span<const int32_t> cluster_of, int64_t clusters) const;

 private:
  SparseCounts training_, held_out_;  // [previous, next]
  std::vector<uint64_t> next_counts_;
  double training_pairs_ = 0, held_out_pairs_ = 0;
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_DATA_CLASS_BIGRAM_H_
