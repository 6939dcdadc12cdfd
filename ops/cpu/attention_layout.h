// The scratch memory that one thread of blockwise attention needs for one work item.
#ifndef ISTHMUS_OPS_CPU_ATTENTION_LAYOUT_H_
#define ISTHMUS_OPS_CPU_ATTENTION_LAYOUT_H_

#include <algorithm>
#include <cstdint>

#include "ops/attention.h"

namespace isthmus::cpu {

// Queries and keys of one block. A larger block makes better matrix products, but computes more that the causal mask
// throws away: half of every block on the diagonal.
constexpr int64_t AttentionBlock(int64_t sequence_length) {
  return std::min<int64_t>(sequence_length, sequence_length <= 512 ? 64 : 128);
}

// Offsets in elements of the compute type. The forward pass uses a part of it.
struct AttentionScratch {
  int64_t block, group;
  int64_t scores, grad_scores;          // [block, block]
  int64_t accumulator, accumulator2;    // [block, head_dim]
  int64_t row_maximum, row_sum;         // [block]
  int64_t query, key, value, grad_out;  // [T, head_dim] each: converted bf16; query and grad_out one head at a time
  int64_t grad_query;                   // [group, T, head_dim]
  int64_t row_dot;                      // [group, T]
  int64_t elements;

  static constexpr AttentionScratch Of(const AttentionShape& shape, bool converted) {
    AttentionScratch s{};
    int64_t next = 0;
    const auto take = [&next](int64_t count) {
      const int64_t at = next;
      next += (count + 15) / 16 * 16;
      return at;
    };
    s.block = AttentionBlock(shape.sequence_length);
    s.group = shape.kv_heads > 0 ? shape.heads / shape.kv_heads : 1;
    const int64_t head = shape.sequence_length * shape.head_dim;
    s.scores = take(s.block * s.block);
    s.grad_scores = take(s.block * s.block);
    s.accumulator = take(s.block * shape.head_dim);
    s.accumulator2 = take(s.block * shape.head_dim);
    s.row_maximum = take(s.block);
    s.row_sum = take(s.block);
    s.query = take(converted ? s.group * head : 0);
    s.key = take(converted ? head : 0);
    s.value = take(converted ? head : 0);
    s.grad_out = take(converted ? s.group * head : 0);
    s.grad_query = take(s.group * head);
    s.row_dot = take(s.group * shape.sequence_length);
    s.elements = next;
    return s;
  }
};

}  // namespace isthmus::cpu

#endif  // ISTHMUS_OPS_CPU_ATTENTION_LAYOUT_H_
