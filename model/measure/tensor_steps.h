// Computes the losses after steps of equal norm (model/measure/equal_norm_steps.h) of tensors that lie in memory, in
// fp64. The sampled tokens' logits are formed again, one block of the vocabulary at a time: G_∥ = F Qᵀ and A Wᵀ = F Σ²
// Qᵀ follow from F = G Q and W = Q Σ Vᵀ, and the best approximation is U Uᵀ G with eigenvectors U of G Gᵀ. A block
// keeps of each token and step only the sums that its loss follows from.
//
// Each rank has its rows of the vocabulary, as everywhere. Data ranks share the sampled tokens.
#ifndef ISTHMUS_MODEL_MEASURE_TENSOR_STEPS_H_
#define ISTHMUS_MODEL_MEASURE_TENSOR_STEPS_H_

#include <absl/status/statusor.h>

#include "model/algebra/matrix.h"
#include "model/measure/equal_norm_steps.h"
#include "model/measure/tensor_head.h"
#include "model/measure/tensor_sample.h"
#include "model/measure/tensor_tokens.h"
#include "parallel/communicator.h"

namespace isthmus {

// `gram` is G Gᵀ of the sampled tokens, over the whole vocabulary. A direction is not measured if it is zero, if
// rounding may turn it by a thousandth, or if the best approximation is not unique. A loss beyond the range of fp64 is
// NaN or infinite. Takes one exponential for each sampled token, row of the vocabulary, size and direction, and the
// eigenvectors of `gram`. Collective over both groups. Errors: those of collectives.
absl::StatusOr<EqualNormSteps> TakeEqualNormSteps(const TensorHead& head, const TensorTokenSums& tokens,
                                                  const TensorSample& sample, const Matrix& gram, Communicator& tensor,
                                                  Communicator& data);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_TENSOR_STEPS_H_
