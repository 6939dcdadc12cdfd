// Describes the values of a stored tensor, and how two checkpoints differ.
#ifndef ISTHMUS_CHECKPOINT_STATISTICS_H_
#define ISTHMUS_CHECKPOINT_STATISTICS_H_

#include <absl/status/statusor.h>

#include <cstdint>

#include "checkpoint/tensor_reader.h"
#include "proto/checkpoint.pb.h"

namespace isthmus {

// Statistics are of the finite values alone, but for the count of others. Sums are formed in fp64.
struct TensorStatistics {
  int64_t not_finite = 0;
  double minimum = 0, maximum = 0;
  double mean = 0, root_mean_square = 0;
};

struct TensorDifference {
  int64_t different = 0;  // elements whose values differ; NaN equals NaN
  double largest = 0;     // absolute difference
  double relative = 0;    // norm of the difference to the norm of the first
};

// Reads block by block. Errors: those of TensorReader::Read.
absl::StatusOr<TensorStatistics> StatisticsOf(const proto::TensorEntry& tensor, TensorReader& reader);

// Compares two tensors of the same shape, of any dtypes and slices.
absl::StatusOr<TensorDifference> DifferenceOf(const proto::TensorEntry& first, TensorReader& first_reader,
                                              const proto::TensorEntry& second, TensorReader& second_reader);

}  // namespace isthmus

#endif  // ISTHMUS_CHECKPOINT_STATISTICS_H_
