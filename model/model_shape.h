// The sizes of a model, resolved.
#ifndef ISTHMUS_MODEL_MODEL_SHAPE_H_
#define ISTHMUS_MODEL_MODEL_SHAPE_H_

#include <cstdint>

#include "proto/config.pb.h"
#include "runtime/dtype.h"

namespace isthmus {

struct ModelShape {
  int64_t vocabulary = 0;  // V
  int64_t width = 0;       // D
  int64_t layers = 0;      // L
  int64_t heads = 0;       // H
  int64_t kv_heads = 0;    // K
  int64_t head_dim = 0;
  int64_t feed_forward = 0;  // F
  double rope_theta = 10000;
  double norm_epsilon = 1e-5;
  double init_std = 0.02;

  // From a resolved configuration.
  static ModelShape From(const proto::ModelConfig& config);
};

// Element type of weights and activations. Sums and gradients of weights use AccumulationType of it.
DType ComputeType(const proto::PrecisionConfig& config);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MODEL_SHAPE_H_
