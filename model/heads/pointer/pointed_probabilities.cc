#include "model/heads/pointer/pointed_probabilities.h"

#include <absl/types/span.h>

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "runtime/status.h"

namespace isthmus {
namespace {

// Returns log(exp(a) + exp(b)).
double LogSum(double a, double b) {
  const double larger = std::max(a, b), smaller = std::min(a, b);
  return std::isinf(larger) ? larger : larger + std::log1p(std::exp(smaller - larger));
}

absl::Status Reduce(Communicator& tensor, double& value, Reduction reduction) {
  return tensor.size() == 1 ? absl::OkStatus() : tensor.AllReduceNumbers(absl::MakeSpan(&value, 1), reduction);
}

}  // namespace

absl::Status ToLogProbabilities(const PointedTokens& pointed, Range rows, Eigen::Ref<Eigen::RowVectorXd> logits,
                                Communicator& tensor) {
  double maximum = logits.size() == 0 ? -HUGE_VAL : logits.maxCoeff();
  ISTHMUS_RETURN_IF_ERROR(Reduce(tensor, maximum, Reduction::kMax));
  double sum = (logits.array() - maximum).exp().sum();
  ISTHMUS_RETURN_IF_ERROR(Reduce(tensor, sum, Reduction::kSum));
  const double log_sum_exp = maximum + std::log(sum);

  double pointer_log_sum_exp = pointed.sink;
  for (const double score : pointed.scores) pointer_log_sum_exp = LogSum(pointer_log_sum_exp, score);
  const double log_share = pointed.slot - LogSum(pointed.slot, log_sum_exp);  // log σ
  const double log_rest = log_sum_exp - LogSum(pointed.slot, log_sum_exp);    // log (1 - σ)
  const double log_kept = LogSum(log_rest, log_share + pointed.sink - pointer_log_sum_exp);
  logits.array() += log_kept - log_sum_exp;
  for (size_t position = 0; position < pointed.scores.size(); ++position) {
    const int64_t row = pointed.ids[position] - rows.begin;
    if (row < 0 || row >= rows.size()) continue;
    logits(row) = LogSum(logits(row), log_share + pointed.scores[position] - pointer_log_sum_exp);
  }
  return absl::OkStatus();
}

}  // namespace isthmus
