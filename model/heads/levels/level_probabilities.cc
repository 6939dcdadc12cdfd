#include "model/heads/levels/level_probabilities.h"

#include <absl/types/span.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "runtime/status.h"

namespace isthmus {
namespace {

absl::Status ReduceMatrix(Communicator& tensor, Matrix& values, Reduction reduction) {
  if (tensor.size() == 1) return absl::OkStatus();
  return tensor.AllReduceNumbers(absl::MakeSpan(values.data(), static_cast<size_t>(values.size())), reduction);
}

}  // namespace

absl::Status ToLogProbabilities(const TwoLevels& levels, const Matrix& cluster_logits, Matrix& logits,
                                Communicator& tensor) {
  const Eigen::Index tokens = logits.rows(), clusters = levels.clusters();
  // The group of each own row: its cluster, or the first level.
  std::vector<Eigen::Index> groups;
  for (Eigen::Index row = 0; row < logits.cols(); ++row) {
    const int32_t cluster = levels.cluster_of(static_cast<int32_t>(levels.own_tokens().begin + row));
    groups.push_back(cluster == TwoLevels::kNoCluster ? clusters : cluster);
  }
  Matrix maxima = Matrix::Constant(tokens, clusters + 1, -HUGE_VAL), sums = Matrix::Zero(tokens, clusters + 1);
  Matrix of_cluster = Matrix::Zero(tokens, clusters);
  of_cluster.middleCols(levels.own_clusters().begin, cluster_logits.cols()) = cluster_logits;
  for (Eigen::Index n = 0; n < tokens; ++n) {
    for (Eigen::Index row = 0; row < logits.cols(); ++row) {
      double& largest = maxima(n, groups[static_cast<size_t>(row)]);
      largest = std::max(largest, logits(n, row));
    }
  }
  ISTHMUS_RETURN_IF_ERROR(ReduceMatrix(tensor, maxima, Reduction::kMax));
  ISTHMUS_RETURN_IF_ERROR(ReduceMatrix(tensor, of_cluster, Reduction::kSum));
  for (Eigen::Index n = 0; n < tokens; ++n) {
    for (Eigen::Index row = 0; row < logits.cols(); ++row) {
      const Eigen::Index group = groups[static_cast<size_t>(row)];
      sums(n, group) += std::exp(logits(n, row) - maxima(n, group));
    }
  }
  ISTHMUS_RETURN_IF_ERROR(ReduceMatrix(tensor, sums, Reduction::kSum));
  for (Eigen::Index n = 0; n < tokens; ++n) {
    const double largest = std::max(of_cluster.row(n).maxCoeff(), maxima(n, clusters));
    double first_level = (of_cluster.row(n).array() - largest).exp().sum();
    // Without tokens in the first level the maximum is -infinity, and the sum is zero.
    first_level += std::exp(maxima(n, clusters) - largest) * sums(n, clusters);
    first_level = largest + std::log(first_level);
    for (Eigen::Index row = 0; row < logits.cols(); ++row) {
      const Eigen::Index group = groups[static_cast<size_t>(row)];
      if (group < clusters) logits(n, row) += of_cluster(n, group) - maxima(n, group) - std::log(sums(n, group));
      logits(n, row) -= first_level;
    }
  }
  return absl::OkStatus();
}

}  // namespace isthmus
