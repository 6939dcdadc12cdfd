#include "model/measure/part_shares.h"

#include <algorithm>
#include <iterator>

#include "model/algebra/host_copy.h"
#include "model/algebra/matrix.h"
#include "model/measure/frequency_buckets.h"
#include "ops/elementwise.h"
#include "ops/embedding.h"
#include "ops/matmul.h"
#include "ops/split.h"
#include "runtime/device.h"
#include "runtime/status.h"

namespace isthmus {

void PartShares::SetBuckets(absl::Span<const uint64_t> token_counts) {
  std::vector<uint64_t> counts(token_counts.begin(), token_counts.end());
  counts.resize(static_cast<size_t>(shape_.vocabulary), 0);
  buckets_ = FrequencyBuckets(counts);
}

absl::Status PartShares::Place(const HeadClasses* classes) {
  bucket_sizes_.assign(kFrequencyBuckets, 0);
  bucket_rows_.clear();
  shard_rows_.clear();
  std::vector<uint8_t> buckets = buckets_;
  if (classes != nullptr) {
    buckets.clear();
    for (const int32_t row : classes->rows) buckets.push_back(buckets_[static_cast<size_t>(row)]);
  }
  for (const uint8_t bucket : buckets) ++bucket_sizes_[bucket];
  for (int rank = 0; rank < shape_.tensor_ranks; ++rank) {
    const Range rows = ShardOf(std::ssize(buckets_), shape_.tensor_ranks, rank);
    const auto is_of_rank = [&](int32_t row) { return row >= rows.begin && row < rows.end; };
    shard_rows_.push_back(classes == nullptr ? rows.size()
                                             : std::count_if(classes->rows.begin(), classes->rows.end(), is_of_rank));
  }
  bucket_of_row_.assign(buckets.begin() + shape_.shard.begin, buckets.begin() + shape_.shard.end);
  const Range own = shape_.OwnRows(mesh_.data_rank());
  // These are this rank's rows of every bucket but the last, one bucket after the other.
  std::vector<int32_t> rows;
  for (int bucket = 0; bucket + 1 < kFrequencyBuckets; ++bucket) {
    const auto begin = static_cast<int64_t>(rows.size());
    for (int64_t row = own.begin; row < own.end; ++row) {
      if (bucket_of_row_[static_cast<size_t>(row)] == bucket) rows.push_back(static_cast<int32_t>(row));
    }
    bucket_rows_.push_back({begin, static_cast<int64_t>(rows.size())});
  }
  const auto count = static_cast<int64_t>(rows.size());
  return CopyFromHost(Tensor(rows.data(), DType::kInt32, 1, count), memory_.parts.frequent_rows.ColumnSlice(0, count),
                      stream_);
}

absl::StatusOr<PartEnergies> PartShares::Energies(const HeadView& head, const std::vector<double>& shard_energy,
                                                  double scale) {
  const auto tensor_rank = static_cast<size_t>(mesh_.tensor_rank());
  PartEnergies parts(static_cast<size_t>(mesh_.tensor_ranks()));
  if (tensor_rank == 0) {
    for (size_t i = 0; i < parts.shards.size(); ++i) parts.shards[i] = shard_energy[i] * scale * scale;
  }
  ISTHMUS_ASSIGN_OR_RETURN(const Matrix row_energy, HostCopy(memory_.parts.row_energy, stream_));
  for (int64_t row = 0; row < shape_.shard.size(); ++row) {
    parts.buckets[bucket_of_row_[static_cast<size_t>(row)]] += row_energy(0, row);
  }
  InnerProducts products(memory_.update.dots, memory_.update.sums, stream_);
  ISTHMUS_RETURN_IF_ERROR(AddShardEnergy(products));
  for (int bucket = 0; bucket + 1 < kFrequencyBuckets; ++bucket) {
    ISTHMUS_RETURN_IF_ERROR(AddBucketEnergy(head, bucket, products));
  }
  ISTHMUS_ASSIGN_OR_RETURN(const std::vector<double> retained, products.Values());
  if (mesh_.data_rank() == 0) parts.retained_shards[tensor_rank] = retained.front();
  std::copy(retained.begin() + 1, retained.end(), parts.retained_buckets.begin());
  return parts;
}

// Adds tr(FᵀF · Pᵀ M_S P) = <M_S P, P FᵀF>, in fp64: the condition enters squared.
absl::Status PartShares::AddShardEnergy(InnerProducts& products) {
  if (mesh_.tensor_ranks() == 1) return products.AddTrace(memory_.sums.projected_gram);  // the shard is the head
  const Tensor &rows = memory_.head.first_square, &tokens = memory_.head.second_square;
  ISTHMUS_RETURN_IF_ERROR(Matmul({.a = memory_.head.shard_gram, .b = memory_.head.wide_projector, .c = rows}, stream_));
  ISTHMUS_RETURN_IF_ERROR(
      Matmul({.a = memory_.head.wide_projector, .b = memory_.sums.projected_gram, .c = tokens}, stream_));
  return products.Add(rows, tokens);
}

absl::Status PartShares::AddBucketEnergy(const HeadView& head, int bucket, InnerProducts& products) {
  const Range places = bucket_rows_[static_cast<size_t>(bucket)];
  ISTHMUS_RETURN_IF_ERROR(SetZero({.x = memory_.head.part_gram}, stream_));
  for (int64_t begin = places.begin; begin < places.end; begin += shape_.row_block()) {
    const int64_t count = std::min(shape_.row_block(), places.end - begin);
    const Tensor rows = memory_.parts.row_block.RowSlice(0, count);
    ISTHMUS_RETURN_IF_ERROR(EmbeddingForward(
        {.ids = memory_.parts.frequent_rows.ColumnSlice(begin, count), .table = head.weight, .first_row = 0, .y = rows},
        stream_));
    const Tensor basis = memory_.parts.row_block_basis.RowSlice(0, count);
    if (shape_.split) {  // for a share of the energy the basis may be rounded afterwards, as F is
      ISTHMUS_RETURN_IF_ERROR(SplitMatmul({.a = rows, .b = memory_.head.projector_parts, .c = basis}, stream_));
      ISTHMUS_RETURN_IF_ERROR(Cast({.x = basis, .y = rows}, stream_));
      ISTHMUS_RETURN_IF_ERROR(memory_.AddGram(rows, rows, memory_.head.part_gram, stream_));
      continue;
    }
    const Tensor wide = memory_.parts.wide_row_block.RowSlice(0, count);
    if (wide.dtype != rows.dtype) ISTHMUS_RETURN_IF_ERROR(Cast({.x = rows, .y = wide}, stream_));
    ISTHMUS_RETURN_IF_ERROR(Matmul({.a = wide, .b = memory_.head.projector, .c = basis}, stream_));
    ISTHMUS_RETURN_IF_ERROR(memory_.AddGram(basis, basis, memory_.head.part_gram, stream_));
  }
  return products.Add(memory_.sums.projected_gram, memory_.head.part_gram);
}

void PartShares::AddTo(HeadSums& sums, PartEnergies energies) const {
  // The rest of the vocabulary has the energy that the other buckets lack.
  energies.retained_buckets.back() = sums.token.retained_energy;
  for (size_t i = 0; i + 1 < kFrequencyBuckets; ++i) {
    energies.retained_buckets.back() -= energies.retained_buckets[i];
  }
  sums.shards = energies.ShardParts(shard_rows_);
  sums.buckets = energies.BucketParts(bucket_sizes_);
}

}  // namespace isthmus
