// This file finds the element type of a model.
#ifndef ISTHMUS_MODEL_COMPUTE_TYPE_H_
#define ISTHMUS_MODEL_COMPUTE_TYPE_H_

#include "proto/config.pb.h"
#include "runtime/dtype.h"

namespace isthmus {

// Returns the element type of weights and activations. Sums and gradients of weights use AccumulationType of it.
DType ComputeType(const proto::PrecisionConfig& config);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_COMPUTE_TYPE_H_
