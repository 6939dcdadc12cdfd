// Every part of a model has this setting: sizes that all parts share, this rank, one micro-batch, the arithmetic.
#ifndef ISTHMUS_MODEL_PART_SETTING_H_
#define ISTHMUS_MODEL_PART_SETTING_H_

#include <cmath>
#include <cstdint>

#include "parallel/shard.h"
#include "runtime/dtype.h"
#include "runtime/stream.h"

namespace isthmus {

// These tokens pass through the model at once on one data rank.
struct MicroBatchShape {
  int64_t sequences = 0;                                          // B
  int64_t sequence_length = 0;                                    // T
  int64_t tokens() const { return sequences * sequence_length; }  // N
};

struct PartSetting {
  int64_t vocabulary = 0;      // V
  int64_t width = 0;           // D
  int64_t branches = 0;        // blocks of the whole model, each of which adds to the residual stream
  double init_std = 0.02;      // of the initial weights
  uint64_t seed = 0;           // of the run's random numbers
  double norm_epsilon = 1e-5;  // of all norms
  int tensor_rank = 0, tensor_ranks = 1;
  MicroBatchShape batch;  // not needed to declare parameters
  DType type = DType::kFloat32;
  Device device = Device::kCpu;
  bool sequence_parallel = false;
  bool recompute = false;  // blocks run again in the backward pass, and their saved tensors share memory
  bool fp8 = false;        // the blocks' products are of 8-bit operands (model/linear.h); needs bf16
  bool training = true;    // false: no backward pass, nothing of it is placed

  // Returns the type of sums and of weights' gradients.
  DType sum_type() const { return AccumulationType(type); }
  // Returns this rank's part of `count` rows, features or heads that are cut over the tensor ranks.
  Range Share(int64_t count) const { return ShardOf(count, tensor_ranks, tensor_rank); }
  // Returns the rows of the residual stream on this rank: N, or N / tensor ranks under sequence parallelism.
  int64_t local_tokens() const { return batch.tokens() / (sequence_parallel ? tensor_ranks : 1); }
  // Returns the deviation of a block's last projection. All blocks add up in the residual stream, so it is smaller
  // (GPT-2).
  double output_std() const { return init_std / std::sqrt(static_cast<double>(branches)); }
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_PART_SETTING_H_
