// Holds ‖G‖² and ‖G_∥‖² by parts of the vocabulary: tensor ranks' shards, and buckets of token frequency.
#ifndef ISTHMUS_MODEL_MEASURE_PART_ENERGIES_H_
#define ISTHMUS_MODEL_MEASURE_PART_ENERGIES_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "model/measure/frequency_buckets.h"
#include "model/measure/head_figures.h"
#include "model/measure/packed_sum.h"

namespace isthmus {

struct PartEnergies {
  std::vector<double> shards, retained_shards;    // by tensor rank
  std::vector<double> buckets, retained_buckets;  // [kFrequencyBuckets]

  explicit PartEnergies(size_t tensor_ranks)
      : shards(tensor_ranks, 0.0),
        retained_shards(tensor_ranks, 0.0),
        buckets(kFrequencyBuckets, 0.0),
        retained_buckets(kFrequencyBuckets, 0.0) {}

  // Adds the energies to those that are summed over ranks. They must stay where they are until then.
  void AddTo(PackedSum& packed);

  // `rows` lists the number of rows of each part.
  std::vector<HeadPart> ShardParts(const std::vector<int64_t>& rows) const;
  std::vector<HeadPart> BucketParts(const std::vector<int64_t>& rows) const;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_PART_ENERGIES_H_
