// Measures the visible shares of tokens from their Jacobians.
#ifndef ISTHMUS_MODEL_MEASURE_MEASURE_VISIBLE_SHARES_H_
#define ISTHMUS_MODEL_MEASURE_MEASURE_VISIBLE_SHARES_H_

#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <cstdint>

#include "model/algebra/matrix.h"
#include "model/heads/token_jacobians.h"
#include "model/measure/visible_shares.h"
#include "parallel/communicator.h"

namespace isthmus {

// Measures the tokens of `hidden` [n, D] with their targets. Each takes two QR decompositions, of matrices as long as
// the logits and the vocabulary: some 4 V D² operations per token, over the tensor ranks. All ranks of `tensor`, whose
// numbers are in host memory, get the same. Collective.
absl::StatusOr<VisibleShares> MeasureVisibleShares(TokenJacobians& jacobians, const Matrix& hidden,
                                                   absl::Span<const int32_t> targets, Communicator& tensor);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_MEASURE_VISIBLE_SHARES_H_
