// Finds how the parts of the vocabulary share a training step's gradient, and what the head passes on of it.
#ifndef ISTHMUS_MODEL_MEASURE_PART_SHARES_H_
#define ISTHMUS_MODEL_MEASURE_PART_SHARES_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <cstdint>
#include <vector>

#include "model/algebra/inner_products.h"
#include "model/heads/lm_head.h"
#include "model/measure/head_sums.h"
#include "model/measure/measurement_memory.h"
#include "model/measure/part_energies.h"
#include "parallel/mesh.h"
#include "parallel/shard.h"
#include "runtime/stream.h"

namespace isthmus {

class PartShares {
 public:
  // All arguments must outlive this object.
  PartShares(const MeasurementShape& shape, const MeasurementMemory& memory, const Mesh& mesh, Stream& stream)
      : shape_(shape), memory_(memory), mesh_(mesh), stream_(stream) {}

  // `token_counts` says how often each token of the vocabulary occurs; tokens that it lacks never occur.
  void SetBuckets(absl::Span<const uint64_t> token_counts);
  // Returns the number of rows of the whole vocabulary.
  int64_t vocabulary() const { return static_cast<int64_t>(buckets_.size()); }
  // Takes the rows of the shape, which are those of the vocabulary or `classes`. Fills memory.parts.frequent_rows.
  absl::Status Place(const HeadClasses* classes);

  // Returns this rank's part of each energy, after the step's last micro-batch. The whole is the sum over the mesh, but
  // for the last bucket's retained energy. `shard_energy` is Σ_n ‖p - y‖² by tensor rank, of this data rank. `scale` is
  // the factor of a token's loss in the mean. Uses memory.head.part_gram and the scratch squares. Waits for the stream.
  absl::StatusOr<PartEnergies> Energies(const HeadView& head, const std::vector<double>& shard_energy, double scale);
  // Fills in sums.shards and sums.buckets from energies that are summed over the mesh, as sums.token is.
  void AddTo(HeadSums& sums, PartEnergies energies) const;

 private:
  absl::Status AddShardEnergy(InnerProducts& products);
  absl::Status AddBucketEnergy(const HeadView& head, int bucket, InnerProducts& products);

  const MeasurementShape& shape_;
  const MeasurementMemory& memory_;
  const Mesh& mesh_;
  Stream& stream_;
  std::vector<uint8_t> buckets_;        // of the whole vocabulary
  std::vector<uint8_t> bucket_of_row_;  // of this shard's rows
  std::vector<Range> bucket_rows_;      // places in memory.parts.frequent_rows
  std::vector<int64_t> bucket_sizes_;   // rows of all shards
  std::vector<int64_t> shard_rows_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_PART_SHARES_H_
