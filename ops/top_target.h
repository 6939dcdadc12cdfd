// Says of which tokens the target is the most probable class, where logits are sharded by vocabulary rows. Every rank
// finds what its shard has, the caller gathers it from all tensor ranks, and every rank then compares.
//
// C tokens are in the chunk, P shards, S_i are the vocabulary rows of shard i, y is the target:
//   rivals[n, 0] = z_y where y lies in S_i, else -infinity
//   rivals[n, 1] = max_{v in S_i, v != y} z_v; -infinity where there is none, NaN if one is NaN
//   top[n]       = [max_i rivals_i[n, 0] > max_i rivals_i[n, 1]]
// A class that is as probable as the target makes it no top, and so does a NaN. A soft cap keeps the order of logits,
// and rounding may make some of its results alike: the logits are those before it.
//
//   logits    [C, V_i]  fp32 | fp64
//   targets   [1, C]    int32, in [0, V)
//   rivals    [C, 2]    dtype of logits
//   gathered  [P·C, 2]  the rivals of shard 0, then shard 1, …
//   top       [1, C]    int32: 1 or 0
//
// Errors: InvalidArgument when shapes or dtypes disagree. Both are deterministic. The cost is one pass over the logits.
#ifndef ISTHMUS_OPS_TOP_TARGET_H_
#define ISTHMUS_OPS_TOP_TARGET_H_

#include <absl/status/status.h>

#include <cstdint>

#include "runtime/operator_cost.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

struct TargetRivalsArgs {
  ConstTensor logits;
  ConstTensor targets;
  int64_t first_row = 0;  // of the shard in the vocabulary
  Tensor rivals;

  OperatorCost Cost() const;
};

absl::Status TargetRivals(const TargetRivalsArgs& args, Stream& stream);

struct TopTargetsArgs {
  ConstTensor gathered;
  int64_t shards = 1;  // P
  Tensor top;

  OperatorCost Cost() const;
};

absl::Status TopTargets(const TopTargetsArgs& args, Stream& stream);

// The implementations take checked arguments.
namespace cpu {
absl::Status TargetRivals(const TargetRivalsArgs& args);
absl::Status TopTargets(const TopTargetsArgs& args);
}  // namespace cpu
namespace cuda {
absl::Status TargetRivals(const TargetRivalsArgs& args, const Context& context);
absl::Status TopTargets(const TopTargetsArgs& args, const Context& context);
}  // namespace cuda

}  // namespace isthmus

#endif  // ISTHMUS_OPS_TOP_TARGET_H_
