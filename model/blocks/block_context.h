// What the blocks of a decoder layer share: sizes, the border of the tensor-parallel region, scratch memory.
#ifndef ISTHMUS_MODEL_BLOCKS_BLOCK_CONTEXT_H_
#define ISTHMUS_MODEL_BLOCKS_BLOCK_CONTEXT_H_

#include <cstdint>

#include "model/linear.h"
#include "model/model_shape.h"
#include "model/tensor_region.h"
#include "runtime/arena.h"
#include "runtime/stream.h"

namespace isthmus {

// The sizes of one micro-batch on one rank.
struct MicroBatchShape {
  int64_t sequences = 0;        // B
  int64_t sequence_length = 0;  // T
  int64_t local_tokens = 0;     // rows of the residual stream: N, or N / tensor ranks under sequence parallelism
  int64_t tokens() const { return sequences * sequence_length; }  // N
};

// Offsets in the activation arena of scratch that every block uses in turn and that holds nothing between blocks, but
// for `branch`, which carries a block's output to the next block's norm.
struct BlockScratch {
  Tensor normed;     // [N, D] output of the norm
  Tensor branch;     // [N, D] output of the block, before the residual addition; gradient of `normed`
  Tensor grad_full;  // [N, D] gathered gradient; only under sequence parallelism
  Tensor wide;       // [N, max(query + key + value features, 2 F)] of this shard
  Tensor narrow;     // [N, max(query features, F)]
  Tensor narrow2;    // [N, F]
  Tensor norm_workspace;
  Tensor attention_workspace;  // uint8
  Fp8Scratch fp8;              // undefined without fp8 products
};

struct BlockContext {
  ModelShape shape;
  TensorShard shard;
  MicroBatchShape batch;
  DType type = DType::kFloat32;
  TensorRegion region;
  Stream* stream;
  Tensor rope_table;  // [T, head_dim]
  BlockScratch scratch;

  // What the blocks' linear layers are given.
  const Fp8Scratch* fp8() const { return scratch.fp8.left.defined() ? &scratch.fp8 : nullptr; }
  DType accumulation_type() const { return AccumulationType(type); }
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_BLOCKS_BLOCK_CONTEXT_H_
