// Attention by some sequences, or some heads of one sequence, at a time. It serves kernels whose workspace grows with
// what they take at once. This is plain arithmetic, the same in every build.
#ifndef ISTHMUS_OPS_CUDA_ATTENTION_SLICES_H_
#define ISTHMUS_OPS_CUDA_ATTENTION_SLICES_H_

#include <cstdint>
#include <vector>

#include "ops/attention.h"

namespace isthmus::cuda {

// Shapes whose copies make up `shape`, the largest first. They are all of it, then fewer sequences with all heads, then
// fewer heads of one sequence. Key heads keep their query heads.
inline std::vector<AttentionShape> AttentionSlices(const AttentionShape& shape) {
  std::vector<AttentionShape> slices;
  const auto add = [&](int64_t sequences, int64_t kv_heads) {
    AttentionShape slice = shape;
    slice.sequences = sequences;
    slice.kv_heads = kv_heads;
    slice.heads = shape.heads / shape.kv_heads * kv_heads;
    slices.push_back(slice);
  };
  for (int64_t sequences = shape.sequences; sequences >= 1; --sequences) {
    if (shape.sequences % sequences == 0) add(sequences, shape.kv_heads);
  }
  for (int64_t heads = shape.kv_heads - 1; heads >= 1; --heads) {
    if (shape.kv_heads % heads == 0) add(1, heads);
  }
  return slices;
}

// The part of `args` that begins with `sequence` and key head `kv_head` and has the shape `slice`. Each part gets the
// whole workspace, because slices run one after another.
inline AttentionBackwardArgs SliceOf(const AttentionBackwardArgs& args, const AttentionShape& slice, int64_t sequence,
                                     int64_t kv_head) {
  const AttentionShape& s = args.shape;
  const int64_t head = s.heads / s.kv_heads * kv_head;
  AttentionBackwardArgs part = args;
  part.shape = slice;
  const auto cut = [&](int64_t first_head, int64_t heads, auto&... tensors) {
    ((tensors = tensors.RowSlice(sequence * s.sequence_length, slice.sequences * s.sequence_length)
                    .ColumnSlice(first_head * s.head_dim, heads * s.head_dim)),
     ...);
  };
  cut(head, slice.heads, part.q, part.out, part.grad_out, part.grad_q);
  cut(kv_head, slice.kv_heads, part.k, part.v, part.grad_k, part.grad_v);
  part.log_sum_exp = args.log_sum_exp.RowSlice(sequence, slice.sequences)
                         .ColumnSlice(head * s.sequence_length, slice.heads * s.sequence_length);
  return part;
}

}  // namespace isthmus::cuda

#endif  // ISTHMUS_OPS_CUDA_ATTENTION_SLICES_H_
