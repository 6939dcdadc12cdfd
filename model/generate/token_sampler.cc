#include "model/generate/token_sampler.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "runtime/philox.h"

namespace isthmus {

absl::Status CheckSamplingOptions(const SamplingOptions& options) {
  if (!(options.temperature >= 0 && std::isfinite(options.temperature))) {
    return absl::InvalidArgumentError(
        absl::StrCat("--temperature: ", options.temperature, "; accepts 0 (always the most probable token) and more"));
  }
  if (options.top_k < 0) {
    return absl::InvalidArgumentError(absl::StrCat("--top-k: ", options.top_k, "; accepts 0 (all tokens) and more"));
  }
  if (!(options.top_p > 0 && options.top_p <= 1)) {
    return absl::InvalidArgumentError(absl::StrCat("--top-p: ", options.top_p, "; accepts above 0 to 1"));
  }
  return absl::OkStatus();
}

int32_t TokenSampler::Choose(absl::Span<const double> logits, uint64_t position) {
  if (options_.vocabulary > 0) logits = logits.first(std::min(logits.size(), static_cast<size_t>(options_.vocabulary)));
  order_.resize(logits.size());
  std::iota(order_.begin(), order_.end(), 0);
  const auto more_probable = [&](int32_t a, int32_t b) {
    const double x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  };
  size_t kept = order_.size();
  if (options_.temperature == 0) kept = 1;
  if (options_.top_k > 0) kept = std::min(kept, static_cast<size_t>(options_.top_k));
  std::partial_sort(order_.begin(), order_.begin() + static_cast<std::ptrdiff_t>(kept), order_.end(), more_probable);
  if (kept == 1) return order_.front();

  probability_.resize(kept);
  const double largest = logits[static_cast<size_t>(order_.front())];
  double total = 0;
  for (size_t i = 0; i < kept; ++i) {
    probability_[i] = std::exp((logits[static_cast<size_t>(order_[i])] - largest) / options_.temperature);
    total += probability_[i];
  }
  if (options_.top_p < 1) {
    double sum = 0;
    size_t count = 0;
    while (count < kept && sum < options_.top_p * total) sum += probability_[count++];
    kept = count;
    total = sum;
  }
  double rest = total * Philox::Uniform(options_.seed, RandomPurpose::kGeneration, 0, position);
  for (size_t i = 0; i < kept; ++i) {
    rest -= probability_[i];
    if (rest < 0) return order_[i];
  }
  return order_[kept - 1];
}

}  // namespace isthmus
