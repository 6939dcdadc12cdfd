// Look-up in a shard of the vocabulary-sized table (Megatron-LM, arXiv:1909.08053, section 3). Rows that belong to
// other shards read as zero, so that the sum over shards is the whole look-up.
//
//   y[n]                          = table[ids[n] - first_row]   where ids[n] lies in the shard, else 0
//   grad_table[ids[n]-first_row] += grad_y[n]                   where ids[n] lies in the shard
//
//   ids         [1, N]   int32, in [0, V)
//   table       [V_i, D] fp32 | bf16 | fp64: vocabulary rows [first_row, first_row + V_i)
//   y, grad_y   [N, D]   dtype of table
//   grad_table  [V_i, D] fp32 (fp64 with fp64), added to
//   workspace   int32 [1, 2·N]
//
// The backward pass adds the rows of one token in ascending n. It uses no atomics and is deterministic for any number
// of threads. Errors: InvalidArgument when shapes or dtypes disagree.
#ifndef ISTHMUS_OPS_EMBEDDING_H_
#define ISTHMUS_OPS_EMBEDDING_H_

#include <absl/status/status.h>

#include <cstdint>

#include "runtime/operator_cost.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

struct EmbeddingForwardArgs {
  ConstTensor ids;
  ConstTensor table;
  int64_t first_row = 0;
  Tensor y;

  OperatorCost Cost() const;
};

absl::Status EmbeddingForward(const EmbeddingForwardArgs& args, Stream& stream);

struct EmbeddingBackwardArgs {
  ConstTensor ids;
  ConstTensor grad_y;
  int64_t first_row = 0;
  Tensor grad_table;
  Tensor workspace;

  OperatorCost Cost() const;
};

absl::Status EmbeddingBackward(const EmbeddingBackwardArgs& args, Stream& stream);

// The implementations take checked arguments.
namespace cpu {
absl::Status EmbeddingForward(const EmbeddingForwardArgs& args);
absl::Status EmbeddingBackward(const EmbeddingBackwardArgs& args);
}  // namespace cpu
namespace cuda {
absl::Status EmbeddingForward(const EmbeddingForwardArgs& args, const Context& context);
absl::Status EmbeddingBackward(const EmbeddingBackwardArgs& args, const Context& context);
}  // namespace cuda

}  // namespace isthmus

#endif  // ISTHMUS_OPS_EMBEDDING_H_
