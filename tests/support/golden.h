// The results that PyTorch computed for one small decoder (tools/golden/transformer.py), read from tests/golden.
#ifndef ISTHMUS_TESTS_SUPPORT_GOLDEN_H_
#define ISTHMUS_TESTS_SUPPORT_GOLDEN_H_

#include <absl/status/statusor.h>

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace isthmus {

// Row-major; a vector of n elements is [1, n], as in Tensor.
struct GoldenTensor {
  int64_t rows = 0;
  int64_t columns = 0;
  std::vector<double> values;
};
using GoldenTensors = std::map<std::string, GoldenTensor>;

struct Golden {
  // Sizes and settings by the names in the file. `config` has vocabulary, width, layers, heads, kv_heads, head_dim,
  // feed_forward, rope_theta, norm_epsilon, tied_embeddings, head_rank, sequences and sequence_length. `optimizer` has
  // learning_rate, beta1, beta2, epsilon, weight_decay, clip_norm and clip_epsilon.
  nlohmann::json config;
  nlohmann::json optimizer;

  // [step][B·T]; row b·T + t is token t of sequence b.
  std::vector<std::vector<int32_t>> ids;
  std::vector<std::vector<int32_t>> targets;

  // Step 0. Tensors other than `initial` are right to 5e-10 of their largest element; `initial` is exact in bf16 too.
  GoldenTensors initial;
  GoldenTensor hidden;      // [B·T, D], after the final norm
  GoldenTensor logits;      // [T, V], first sequence
  GoldenTensors gradients;  // before clipping

  // [step], before each update; norms before clipping.
  std::vector<double> losses;
  std::vector<double> gradient_norms;
  GoldenTensors final;

  // The same run in float32 shows how far rounding alone drifts.
  std::vector<double> fp32_losses;
  std::vector<double> fp32_gradient_norms;

  // Figures of the head at step 0, with keys as `isthmus decompose` prints them. A factorised head's are of the product
  // up · down.
  nlohmann::json decomposition;
  nlohmann::json decomposition_of_up;  // of `up` alone, with states of width R; null when the head is full
};

// `variant` is untied, factorised or tied. Errors: NotFound or DataLoss with the path and the fault.
absl::StatusOr<Golden> LoadGolden(std::string_view variant);

}  // namespace isthmus

#endif  // ISTHMUS_TESTS_SUPPORT_GOLDEN_H_
