#include "parallel/gradient_reducer.h"

#include <absl/strings/str_cat.h>

#include <algorithm>

#include "runtime/status.h"

namespace isthmus {

std::vector<GradientBucket> CutIntoBuckets(absl::Span<const Range> segments, int64_t element_bytes,
                                           int64_t bucket_bytes) {
  std::vector<GradientBucket> buckets;
  for (size_t i = segments.size(); i-- > 0;) {
    if (buckets.empty() || buckets.back().elements.size() * element_bytes >= bucket_bytes) {
      buckets.push_back({segments[i]});
    }
    buckets.back().elements.begin = segments[i].begin;
    ++buckets.back().segments;
  }
  return buckets;
}

namespace {

Range PartOfBucket(const Range& bucket, int data_ranks, int data_rank) {
  const int64_t part = bucket.size() / data_ranks, begin = bucket.begin + part * data_rank;
  return {begin, begin + part};
}

}  // namespace

std::vector<Range> PartsOfBuckets(absl::Span<const Range> segments, int64_t element_bytes, int64_t bucket_bytes,
                                  int data_ranks, int data_rank) {
  std::vector<Range> parts;
  for (const GradientBucket& bucket : CutIntoBuckets(segments, element_bytes, bucket_bytes)) {
    parts.push_back(PartOfBucket(bucket.elements, data_ranks, data_rank));
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

absl::StatusOr<GradientReducer> GradientReducer::Create(Communicator& data, const Tensor& gradients,
                                                        absl::Span<const Range> segments, int64_t bucket_bytes,
                                                        bool shard_optimizer) {
  GradientReducer reducer;
  reducer.data_ = &data;
  reducer.gradients_ = gradients;
  reducer.shard_ = shard_optimizer && data.size() > 1;
  reducer.bucket_of_segment_.resize(segments.size());
  int64_t covered = gradients.size();
  for (size_t i = segments.size(); i-- > 0;) {
    const Range& segment = segments[i];
    if (segment.end != covered || (reducer.shard_ && segment.size() % data.size() != 0)) {
      return absl::InternalError(absl::StrCat("gradient segment ", i, " [", segment.begin, ", ", segment.end,
                                              ") does not end at ", covered, " or is no multiple of ", data.size()));
    }
    covered = segment.begin;
  }
  if (covered != 0) return absl::InternalError(absl::StrCat("gradient segments begin at ", covered, ", not 0"));
  size_t next = segments.size();
  for (const GradientBucket& bucket : CutIntoBuckets(segments, SizeOf(gradients.dtype), bucket_bytes)) {
    for (int i = 0; i < bucket.segments; ++i) reducer.bucket_of_segment_[--next] = reducer.buckets_.size();
    reducer.buckets_.push_back({bucket});
  }
  if (!reducer.shard_) {
    reducer.owned_.push_back({0, gradients.size()});
  } else {
    reducer.owned_ = PartsOfBuckets(segments, SizeOf(gradients.dtype), bucket_bytes, data.size(), data.rank());
  }
  return reducer;
}

Range GradientReducer::PartOf(const Bucket& bucket) const {
  return PartOfBucket(bucket.elements, data_->size(), data_->rank());
}

absl::Status GradientReducer::SegmentReady(int segment) {
  if (data_->size() == 1) return absl::OkStatus();
  Bucket& bucket = buckets_[bucket_of_segment_[static_cast<size_t>(segment)]];
  if (++bucket.ready == bucket.segments) {
    const Tensor all = gradients_.ColumnSlice(bucket.elements.begin, bucket.elements.size());
    if (shard_) {
      const Range part = PartOf(bucket);
      ISTHMUS_ASSIGN_OR_RETURN(bucket.ticket,
                               data_->StartReduceScatter(all, gradients_.ColumnSlice(part.begin, part.size())));
    } else {
      ISTHMUS_ASSIGN_OR_RETURN(bucket.ticket, data_->StartAllReduce(all, Reduction::kSum));
    }
  }
  return data_->Progress();
}

absl::Status GradientReducer::Finish() {
  if (data_->size() == 1) return absl::OkStatus();
  for (Bucket& bucket : buckets_) {
    if (bucket.ready != bucket.segments) {
      return absl::InternalError(absl::StrCat("gradient bucket [", bucket.elements.begin, ", ", bucket.elements.end,
                                              ") has ", bucket.ready, " of ", bucket.segments, " segments ready"));
    }
    ISTHMUS_RETURN_IF_ERROR(data_->Wait(bucket.ticket));
  }
  Reset();
  return absl::OkStatus();
}

void GradientReducer::Reset() {
  for (Bucket& bucket : buckets_) {
    bucket.ready = 0;
    bucket.ticket = {};
  }
}

absl::Status GradientReducer::GatherGradients(Range elements) { return Gather(gradients_, elements); }

absl::Status GradientReducer::GatherWeights(const Tensor& weights) { return Gather(weights, {0, weights.size()}); }

absl::Status GradientReducer::Gather(const Tensor& all, Range elements) {
  if (!shard_) return absl::OkStatus();
  for (Bucket& bucket : buckets_) {
    if (bucket.elements.end <= elements.begin || bucket.elements.begin >= elements.end) continue;
    const Range part = PartOf(bucket);
    ISTHMUS_ASSIGN_OR_RETURN(bucket.ticket,
                             data_->StartAllGather(all.ColumnSlice(part.begin, part.size()),
                                                   all.ColumnSlice(bucket.elements.begin, bucket.elements.size())));
  }
  for (Bucket& bucket : buckets_) {
    ISTHMUS_RETURN_IF_ERROR(data_->Wait(bucket.ticket));
    bucket.ticket = {};
  }
  return absl::OkStatus();
}

}  // namespace isthmus
