// Floating-point operations of training, by the two conventions in use (DESIGN section 7).
#ifndef ISTHMUS_MODEL_FLOPS_H_
#define ISTHMUS_MODEL_FLOPS_H_

#include <cstdint>

#include "model/model_shape.h"

namespace isthmus {

// Parameters that multiply: all matrices but the embedding look-up, the head once.
constexpr int64_t MultiplyingParameters(const ModelShape& shape) {
  const int64_t attention =
      shape.width * shape.head_dim * (2 * shape.heads + 2 * shape.kv_heads);  // query and output, key and value
  const int64_t layer = attention + 3 * shape.width * shape.feed_forward;
  const int64_t head =
      shape.head_rank > 0 ? shape.head_rank * (shape.width + shape.vocabulary) : shape.width * shape.vocabulary;
  return shape.layers * layer + head;
}

// Forward and backward pass per token. Causal counts the attention that is computed; full counts T×T.
constexpr double CausalFlopsPerToken(const ModelShape& shape, int64_t sequence_length) {
  return 6.0 * static_cast<double>(MultiplyingParameters(shape)) +
         6.0 * static_cast<double>(shape.layers * sequence_length * shape.heads * shape.head_dim);
}
constexpr double FullFlopsPerToken(const ModelShape& shape, int64_t sequence_length) {
  return 6.0 * static_cast<double>(MultiplyingParameters(shape)) +
         12.0 * static_cast<double>(shape.layers * sequence_length * shape.heads * shape.head_dim);
}

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_FLOPS_H_
