// Sums the gradients over the data ranks, bucket by bucket, while the backward pass still runs. With a sharded
// optimizer (ZeRO stage 1, arXiv:1910.02054) every data rank receives only the part of each bucket that it updates.
//
// The gradient arena is cut into segments, ranges whose gradients become complete together. The backward pass completes
// them from the arena's end to its start. Neighbouring segments are merged into buckets of at least `bucket_bytes`.
#ifndef ISTHMUS_PARALLEL_GRADIENT_REDUCER_H_
#define ISTHMUS_PARALLEL_GRADIENT_REDUCER_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <cstdint>
#include <vector>

#include "parallel/communicator.h"
#include "parallel/shard.h"
#include "runtime/tensor.h"

namespace isthmus {

// Neighbouring segments that are reduced together.
struct GradientBucket {
  Range elements;
  int segments = 0;  // number of its segments
};
// Cuts from the arena's end to its start: a bucket takes segments until it has `bucket_bytes`.
std::vector<GradientBucket> CutIntoBuckets(absl::Span<const Range> segments, int64_t element_bytes,
                                           int64_t bucket_bytes);

// Which elements a data rank has the sum of after the reduction, ascending: its part of every bucket.
std::vector<Range> PartsOfBuckets(absl::Span<const Range> segments, int64_t element_bytes, int64_t bucket_bytes,
                                  int data_ranks, int data_rank);

class GradientReducer {
 public:
  // `gradients` is [1, n]. `segments` are ascending element ranges that cover it; with a sharded optimizer each has a
  // multiple of the data ranks as its length. `data` must outlive the reducer.
  static absl::StatusOr<GradientReducer> Create(Communicator& data, const Tensor& gradients,
                                                absl::Span<const Range> segments, int64_t bucket_bytes,
                                                bool shard_optimizer);

  // Element ranges whose sum this rank has after Finish, ascending: the whole arena, or its part of every bucket.
  absl::Span<const Range> owned() const { return owned_; }

  // Says, on the last micro-batch, that the gradients of a segment are complete. Starts the reduction of its bucket
  // once all its segments are, and lets earlier ones progress.
  absl::Status SegmentReady(int segment);
  // Waits for all buckets; then every segment may become ready again.
  absl::Status Finish();
  // Forgets the segments that became ready and the reductions that were started but never ran, after a failed capture.
  void Reset();

  // After Finish: makes the whole sum of elements [begin, end) available on every data rank, in the gradients' memory.
  // Without a sharded optimizer it does nothing.
  absl::Status GatherGradients(Range elements);

  // After the update: sends the owned parts of the weights (same elements as the gradients, any dtype) to all data
  // ranks. Without a sharded optimizer it does nothing.
  absl::Status GatherWeights(const Tensor& weights);

 private:
  struct Bucket : GradientBucket {
    int ready = 0;  // segments
    Ticket ticket;
  };
  Range PartOf(const Bucket& bucket) const;
  // Sends the owned parts of the buckets that overlap `elements` to all data ranks.
  absl::Status Gather(const Tensor& all, Range elements);

  Communicator* data_ = nullptr;
  Tensor gradients_;
  bool shard_ = false;
  std::vector<Bucket> buckets_;
  std::vector<size_t> bucket_of_segment_;
  std::vector<Range> owned_;
};

}  // namespace isthmus

#endif  // ISTHMUS_PARALLEL_GRADIENT_REDUCER_H_
