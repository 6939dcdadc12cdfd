// Passes over the tokens of tensors that lie in memory, a chunk at a time, in fp64: F = G Q comes from G itself.
#ifndef ISTHMUS_MODEL_MEASURE_TENSOR_TOKENS_H_
#define ISTHMUS_MODEL_MEASURE_TENSOR_TOKENS_H_

#include <absl/status/statusor.h>

#include <Eigen/Core>
#include <cstdint>
#include <vector>

#include "model/algebra/matrix.h"
#include "model/measure/block_energies.h"
#include "model/measure/tensor_decomposition.h"
#include "model/measure/tensor_head.h"
#include "model/measure/tensor_scales.h"
#include "model/measure/token_figures.h"
#include "parallel/communicator.h"

namespace isthmus {

// The sums are over the tokens of all data ranks, hence the same on all of them. H_s and U_s are scaled (TensorScales),
// and H' is TensorHead::GradientInput.
struct TensorTokenSums {
  TokenSums token;
  Matrix hidden_gram;          // H_sᵀH_s [D, D]
  Matrix projected_gram;       // FᵀF [k, k]
  Matrix projected_hidden;     // FᵀH_s [k, D]
  Eigen::VectorXd hidden_sum;  // Σ H_s[n] [D]
  Eigen::VectorXd hidden_unit_sum;
  int64_t zero_hidden_rows = 0;
  std::vector<double> shard_energy;  // ‖G[:, S]‖² by shard of the vocabulary, of all tensor ranks

  // These are sums by shard of the vocabulary, for this rank's shards.
  struct Shard {
    Matrix gradient;         // B_i = G_iᵀH' [V_i, width]
    Eigen::VectorXd energy;  // Σ_n G[n, v]² [V_i]
  };
  std::vector<Shard> shards;

  BlockEnergies blocks;  // empty unless HeadTensors asks for it
  SampledTokens sampled;
  Matrix sampled_hidden;     // H of the sampled tokens, as given [n, D]
  Matrix sampled_projected;  // F of the sampled tokens [n, k]
};

// Collective over both groups. Errors: InvalidArgument, naming row and column, if a logit or a token's loss is not
// finite; those of collectives.
absl::StatusOr<TensorTokenSums> SumTensorTokens(const HeadTensors& tensors, const TensorScales& scales,
                                                const TensorHead& head, Communicator& tensor, Communicator& data);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_TENSOR_TOKENS_H_
