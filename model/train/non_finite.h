// Finds, afterwards, the tensors in a rank's memory that made a step's loss or gradient NaN or infinite, or its
// gradient zero or too large.
#ifndef ISTHMUS_MODEL_TRAIN_NON_FINITE_H_
#define ISTHMUS_MODEL_TRAIN_NON_FINITE_H_

#include <absl/status/statusor.h>

#include <string>
#include <vector>

#include "runtime/named_tensor.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

// One rank finds these. Activations are those of its last micro-batch and its own. Gradients are sums over the data
// ranks by then: all of these find the same, whoever it came from. An empty name means none.
struct NonFiniteTensors {
  std::string weight;      // the first of the model that is not finite before the step
  std::string activation;  // the first in the order of the forward pass
  bool loss = false;       // that of the rank's own tokens, in whatever micro-batch
  std::string gradient;    // the first in the order of the backward pass
};

// Returns the first tensor with an element that is NaN or infinite; empty if there is none. Tensors that are not fp32,
// bf16 or fp64 are left out. `scratch` is fp64 [1, 1] on the stream's device. Waits for the stream once for each
// tensor.
absl::StatusOr<std::string> FirstNonFinite(const std::vector<NamedTensor>& tensors, const Tensor& scratch,
                                           Stream& stream);

// These return the first tensor whose elements are all zero, and the tensor with the largest sum of squares; otherwise
// they are as above.
absl::StatusOr<std::string> FirstZero(const std::vector<NamedTensor>& tensors, const Tensor& scratch, Stream& stream);
absl::StatusOr<std::string> Largest(const std::vector<NamedTensor>& tensors, const Tensor& scratch, Stream& stream);

// Returns a text like "rank 1: activation final_norm.x, its loss, gradient of head.weight; ranks 0, 2: gradient of
// head.weight". The ranks whose evidence is earliest in a step come first. `found` has one entry for every rank, by
// rank.
std::string DescribeNonFinite(const std::vector<NonFiniteTensors>& found);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_TRAIN_NON_FINITE_H_
