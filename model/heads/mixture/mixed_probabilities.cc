#include "model/heads/mixture/mixed_probabilities.h"

#include <absl/types/span.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "runtime/status.h"

namespace isthmus {
namespace {

// Returns log(e^a + e^b).
double LogOfSum(double a, double b) {
  const double largest = std::max(a, b);
  return largest == -HUGE_VAL ? largest : largest + std::log1p(std::exp(std::min(a, b) - largest));
}

}  // namespace

MixedProbabilities::MixedProbabilities(const Matrix& prior_logits) : log_priors_(prior_logits) {
  for (Eigen::Index n = 0; n < log_priors_.rows(); ++n) {
    const double largest = log_priors_.row(n).maxCoeff();
    log_priors_.row(n).array() -= largest + std::log((log_priors_.row(n).array() - largest).exp().sum());
  }
}

absl::Status MixedProbabilities::Add(Eigen::Index k, const Matrix& logits, Communicator& tensor) {
  std::vector<double> maxima(static_cast<size_t>(logits.rows()), -HUGE_VAL), sums(maxima.size());
  for (Eigen::Index n = 0; n < logits.rows(); ++n) maxima[static_cast<size_t>(n)] = logits.row(n).maxCoeff();
  if (tensor.size() > 1) ISTHMUS_RETURN_IF_ERROR(tensor.AllReduceNumbers(absl::MakeSpan(maxima), Reduction::kMax));
  for (Eigen::Index n = 0; n < logits.rows(); ++n) {
    sums[static_cast<size_t>(n)] = (logits.row(n).array() - maxima[static_cast<size_t>(n)]).exp().sum();
  }
  if (tensor.size() > 1) ISTHMUS_RETURN_IF_ERROR(tensor.AllReduceNumbers(absl::MakeSpan(sums), Reduction::kSum));
  if (logs_.size() == 0) logs_ = Matrix::Constant(logits.rows(), logits.cols(), -HUGE_VAL);
  for (Eigen::Index n = 0; n < logits.rows(); ++n) {
    const double shift = log_priors_(n, k) - maxima[static_cast<size_t>(n)] - std::log(sums[static_cast<size_t>(n)]);
    for (Eigen::Index v = 0; v < logits.cols(); ++v) logs_(n, v) = LogOfSum(logs_(n, v), logits(n, v) + shift);
  }
  return absl::OkStatus();
}

}  // namespace isthmus
