// Chooses the next token from logits. It has temperature, top-k (Fan et al. 2018, arXiv:1805.04833) and top-p, the
// nucleus (Holtzman et al. 2020, arXiv:1904.09751).
#ifndef ISTHMUS_MODEL_GENERATE_TOKEN_SAMPLER_H_
#define ISTHMUS_MODEL_GENERATE_TOKEN_SAMPLER_H_

#include <absl/status/status.h>
#include <absl/types/span.h>

#include <cstdint>
#include <vector>

namespace isthmus {

struct SamplingOptions {
  double temperature = 1;  // logits are divided by it; 0: always the most probable token
  int64_t top_k = 0;       // only the k most probable tokens; 0: all
  double top_p = 1;        // only the fewest most probable tokens whose probabilities reach p in sum
  uint64_t seed = 1;
  int64_t vocabulary = 0;  // only tokens below it, for models whose vocabulary is padded; 0: all
};

// Errors: InvalidArgument naming the field and what is accepted.
absl::Status CheckSamplingOptions(const SamplingOptions& options);

class TokenSampler {
 public:
  explicit TokenSampler(const SamplingOptions& options) : options_(options) {}

  // Returns the token at `position` of the text. It is a function of logits, options and position alone, so that ranks
  // which hold the same logits choose the same token. Ties go to the smaller token. logits are [V], finite.
  int32_t Choose(absl::Span<const double> logits, uint64_t position);

 private:
  SamplingOptions options_;
  std::vector<int32_t> order_;
  std::vector<double> probability_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_GENERATE_TOKEN_SAMPLER_H_
