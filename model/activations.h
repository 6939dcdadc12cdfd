// The activation memory of a transformer on one rank: what each layer saves, and the scratch that all layers share.
#ifndef ISTHMUS_MODEL_ACTIVATIONS_H_
#define ISTHMUS_MODEL_ACTIVATIONS_H_

#include <vector>

#include "model/blocks/attention_block.h"
#include "model/blocks/block_context.h"
#include "model/blocks/feed_forward_block.h"
#include "runtime/arena.h"

namespace isthmus {

struct LayerSaved {
  AttentionSaved attention;
  FeedForwardSaved feed_forward;
};

struct Activations {
  std::vector<LayerSaved> layers;  // under recomputation all but attention.x share one layer's memory
  Tensor final_x;                  // [local tokens, D] the residual stream before the final norm
  Tensor final_inverse;            // [1, local tokens]
  Tensor grad_stream;              // [local tokens, D] gradient of the residual stream
  Tensor embedding_workspace;      // int32
  Tensor rope_table;               // [T, head_dim]
  BlockScratch scratch;
};

// Sizes that decide an Activations' memory.
struct ActivationShape {
  ModelShape model;
  TensorShard shard;
  MicroBatchShape batch;
  DType type = DType::kFloat32;
  bool sequence_parallel = false;
  bool recompute = false;
  bool fp8 = false;      // the layers' products are of 8-bit operands
  bool training = true;  // false: evaluation and generation, one layer's memory and no gradients
  Device device = Device::kCpu;
};

// Places every tensor; run without an arena it plans (see TensorPlacer).
Activations PlaceActivations(const ActivationShape& shape, TensorPlacer& placer);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_ACTIVATIONS_H_
