// Draws heads in random position: orthonormal bases of subspaces of R^V, all directions alike.
#ifndef ISTHMUS_MODEL_MEASURE_RANDOM_HEAD_H_
#define ISTHMUS_MODEL_MEASURE_RANDOM_HEAD_H_

#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <cstdint>
#include <vector>

#include "model/algebra/matrix.h"
#include "parallel/communicator.h"
#include "parallel/shard.h"

namespace isthmus {

// Returns this rank's rows of Q' [V, rank], for each of its shards. With W = Q S, W' = Q' S has the same Gram matrix.
// `shards` are their rows of the vocabulary; rank is from 1 to V - 1. X has standard normal numbers, that of row v and
// column j with the index v rank + j of Philox's stream `draw`. Q' = X R⁻¹ with XᵀX = RᵀR, summed over the group, and
// the same once more: then Q' is orthonormal to rounding (CholeskyQR2; Yamamoto et al. 2015). Every mesh has the same
// Q', except for rounding. Needs memory of X alone. Collective over `tensor`. Errors: of collectives; Internal if the
// Gram matrix has no factor, which rounding excludes for ranks below 10⁷.
absl::StatusOr<std::vector<Matrix>> RandomHead(absl::Span<const Range> shards, int64_t rank, uint32_t draw,
                                               Communicator& tensor);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_RANDOM_HEAD_H_
