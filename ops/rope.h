// Rotary position embedding (Su et al. 2021, arXiv:2104.09864). The two halves of a head form the pairs, as in Llama's
// published weights.
//
//   for i < h = head_dim/2 at position t, with c = cos(t / theta^(2i/head_dim)) and s = sin(t / theta^(2i/head_dim)):
//     x_i     <- x_i c - x_{i+h} s
//     x_{i+h} <- x_{i+h} c + x_i s
//
//   x      [N, heads·head_dim]  fp32 | bf16 | fp64, in place; any row stride; row n is at position
//                               first_position + n mod sequence_length
//   table  [T_max, head_dim]    fp32 (fp64 with fp64 x): row t holds head_dim/2 cosines, then head_dim/2 sines
//
// `inverse` rotates back, as the backward pass needs it. Errors: InvalidArgument when shapes or dtypes disagree, or a
// position is beyond the table.
#ifndef ISTHMUS_OPS_ROPE_H_
#define ISTHMUS_OPS_ROPE_H_

#include <absl/status/status.h>

#include <cstdint>

#include "runtime/operator_cost.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

// Fills `table` on the stream's device. Angles are computed in fp64 on the host. The call returns when the table is
// full.
struct FillRopeTableArgs {
  double theta = 0;
  int64_t head_dim = 0;
  Tensor table;
};
absl::Status FillRopeTable(const FillRopeTableArgs& args, Stream& stream);

struct RopeArgs {
  Tensor x;
  ConstTensor table;
  int64_t sequence_length = 0;
  int64_t head_dim = 0;
  int64_t first_position = 0;
  bool inverse = false;

  OperatorCost Cost() const;
};

absl::Status Rope(const RopeArgs& args, Stream& stream);

// The implementations take checked arguments.
namespace cpu {
absl::Status Rope(const RopeArgs& args);
}  // namespace cpu
namespace cuda {
absl::Status Rope(const RopeArgs& args, const Context& context);
}  // namespace cuda

}  // namespace isthmus

#endif  // ISTHMUS_OPS_ROPE_H_
