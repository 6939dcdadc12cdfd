#include "model/heads/levels/level_jacobians.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "model/algebra/host_copy.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

// This rank's rows, in the order of TwoLevels.
struct LevelMatrices {
  Matrix first;               // [C_i + own singles, D]: clusters, then tokens
  Matrix members;             // [other tokens, D], cluster by cluster
  std::vector<Range> ranges;  // of each cluster in `members`
  Matrix clusters;            // R of all ranks [C, D]
};

// The second level of one token, all clusters.
struct SecondLevel {
  Eigen::VectorXd shares, slopes;  // P(v | c, h) of each row of `members`, and the soft cap's slope
  Eigen::VectorXd log_sum_exp;     // [C]
  Matrix means;                    // ū [C, D]
};

absl::Status SumRows(Communicator& tensor, Matrix& matrix) {
  return SumOver(tensor, Eigen::Map<Eigen::VectorXd>(matrix.data(), matrix.size()));
}

// Returns the softmax of each cluster's tokens, and their mean.
absl::StatusOr<SecondLevel> SecondLevelOf(const LevelMatrices& matrices, const Eigen::VectorXd& hidden,
                                          const LossForm& form, Communicator& tensor) {
  const Eigen::VectorXd logits =
      (matrices.members * hidden).unaryExpr([&](double logit) { return form.Capped(logit); });
  const auto clusters = static_cast<Eigen::Index>(matrices.ranges.size());
  Eigen::VectorXd largest = Eigen::VectorXd::Constant(clusters, -HUGE_VAL), sums = Eigen::VectorXd::Zero(clusters);
  for (Eigen::Index c = 0; c < clusters; ++c) {
    const Range range = matrices.ranges[static_cast<size_t>(c)];
    if (range.size() > 0) largest(c) = logits.segment(range.begin, range.size()).maxCoeff();
  }
  if (tensor.size() > 1) {
    ISTHMUS_RETURN_IF_ERROR(
        tensor.AllReduceNumbers(absl::MakeSpan(largest.data(), static_cast<size_t>(clusters)), Reduction::kMax));
  }
  SecondLevel second;
  second.shares = logits;
  second.slopes = logits.unaryExpr([&](double logit) { return form.Slope(logit); });
  for (Eigen::Index c = 0; c < clusters; ++c) {
    const Range range = matrices.ranges[static_cast<size_t>(c)];
    auto of_cluster = second.shares.segment(range.begin, range.size());
    of_cluster = (of_cluster.array() - largest(c)).exp().matrix();
    sums(c) = of_cluster.sum();
  }
  ISTHMUS_RETURN_IF_ERROR(SumOver(tensor, sums));
  second.log_sum_exp = largest.array() + sums.array().log();
  second.means = Matrix::Zero(clusters, hidden.size());
  for (Eigen::Index c = 0; c < clusters; ++c) {
    const Range range = matrices.ranges[static_cast<size_t>(c)];
    auto of_cluster = second.shares.segment(range.begin, range.size());
    of_cluster /= sums(c);
    const Eigen::VectorXd weights = of_cluster.cwiseProduct(second.slopes.segment(range.begin, range.size()));
    second.means.row(c) = weights.transpose() * matrices.members.middleRows(range.begin, range.size());
  }
  ISTHMUS_RETURN_IF_ERROR(SumRows(tensor, second.means));
  return second;
}

absl::StatusOr<LevelMatrices> MatricesOf(const TwoLevels& levels, const Linear& clusters, const Linear& tokens,
                                         Communicator& tensor, const Stream& stream) {
  Matrix own_clusters(0, tokens.weight.columns);
  if (levels.own_clusters().size() > 0) {
    ISTHMUS_ASSIGN_OR_RETURN(own_clusters, HostCopy(clusters.weight, stream));
  }
  ISTHMUS_ASSIGN_OR_RETURN(const Matrix in_order, HostCopy(tokens.weight, stream));
  const Range own = levels.own_tokens();
  const Eigen::Index singles = levels.own_singles();
  LevelMatrices matrices;
  matrices.first.resize(own_clusters.rows() + singles, own_clusters.cols());
  matrices.members.resize(own.size() - singles, own_clusters.cols());
  matrices.first.topRows(own_clusters.rows()) = own_clusters;
  for (Eigen::Index place = 0; place < own.size(); ++place) {
    const auto row = in_order.row(levels.rows()[static_cast<size_t>(place)] - own.begin);
    if (place < singles)
      matrices.first.row(own_clusters.rows() + place) = row;
    else
      matrices.members.row(place - singles) = row;
  }
  for (int64_t c = 0; c < levels.clusters(); ++c) {
    matrices.ranges.push_back({levels.rows_of(c).begin - singles, levels.rows_of(c).end - singles});
  }
  matrices.clusters = Matrix::Zero(levels.clusters(), own_clusters.cols());
  matrices.clusters.middleRows(levels.own_clusters().begin, own_clusters.rows()) = own_clusters;
  ISTHMUS_RETURN_IF_ERROR(SumRows(tensor, matrices.clusters));
  return matrices;
}

// Sets the logits' Jacobian and gradient of a token: the first level, and its target's cluster.
void SetLogits(const TwoLevels& levels, const LevelMatrices& matrices, const LossForm& form,
               const ShardedSoftmax& first, const SecondLevel& second, int32_t target, TokenJacobian& token) {
  const int32_t cluster = levels.cluster_of(target);
  const Eigen::VectorXd of_first = first.Gradient(levels.first_class_of(target) - levels.first_class(), form);
  Range members;
  Eigen::VectorXd of_members;
  if (cluster != TwoLevels::kNoCluster) {
    members = matrices.ranges[static_cast<size_t>(cluster)];
    const ShardedSoftmax softmax = {.probabilities = second.shares.segment(members.begin, members.size()),
                                    .slopes = second.slopes.segment(members.begin, members.size()),
                                    .log_sum_exp = second.log_sum_exp(cluster)};
    of_members = softmax.Gradient(levels.member_of(target) - levels.first_member(cluster), form);
  }
  Matrix logits(of_first.size() + members.size(), matrices.first.cols());
  logits << matrices.first, matrices.members.middleRows(members.begin, members.size());
  token.logits = std::make_shared<const Matrix>(std::move(logits));
  token.gradient.resize(of_first.size() + members.size());
  token.gradient << of_first, of_members;
}

}  // namespace

absl::Status LevelJacobians::Visit(const PlacedTokens& tokens, const Visitor& visit) {
  const Matrix& hidden = tokens.hidden;
  ISTHMUS_ASSIGN_OR_RETURN(const LevelMatrices matrices, MatricesOf(levels_, clusters_, tokens_, tensor_, stream_));
  const Range own = levels_.own_tokens(), own_clusters = levels_.own_clusters();
  for (Eigen::Index n = 0; n < hidden.rows(); ++n) {
    const Eigen::VectorXd h = hidden.row(n).transpose();
    ISTHMUS_ASSIGN_OR_RETURN(const ShardedSoftmax first, ShardedSoftmax::Of(matrices.first * h, form_, tensor_));
    const Matrix first_rows = first.slopes.asDiagonal() * matrices.first;
    Eigen::VectorXd first_mean = first_rows.transpose() * first.probabilities;
    ISTHMUS_RETURN_IF_ERROR(SumOver(tensor_, first_mean));
    // P(c | h), and the clusters' rows times their slopes.
    Eigen::VectorXd of_clusters = Eigen::VectorXd::Zero(levels_.clusters());
    of_clusters.segment(own_clusters.begin, own_clusters.size()) = first.probabilities.head(own_clusters.size());
    ISTHMUS_RETURN_IF_ERROR(SumOver(tensor_, of_clusters));
    const Eigen::VectorXd cluster_slopes =
        (matrices.clusters * h).unaryExpr([&](double logit) { return form_.Slope(form_.Capped(logit)); });
    ISTHMUS_ASSIGN_OR_RETURN(const SecondLevel second, SecondLevelOf(matrices, h, form_, tensor_));
    TokenJacobian token;
    token.log_probabilities.resize(own.size(), hidden.cols());
    token.probability_gradient.resize(own.size());
    for (Eigen::Index place = 0; place < own.size(); ++place) {
      const int32_t id = levels_.rows()[static_cast<size_t>(place)], cluster = levels_.cluster_of(id);
      const Eigen::Index row = id - own.begin, member = place - levels_.own_singles();
      if (cluster == TwoLevels::kNoCluster) {
        token.log_probabilities.row(row) = first_rows.row(own_clusters.size() + place) - first_mean.transpose();
        token.probability_gradient(row) = first.probabilities(own_clusters.size() + place);
      } else {
        token.log_probabilities.row(row) =
            cluster_slopes(cluster) * matrices.clusters.row(cluster) - first_mean.transpose() +
            second.slopes(member) * matrices.members.row(member) - second.means.row(cluster);
        token.probability_gradient(row) = of_clusters(cluster) * second.shares(member);
      }
    }
    const int32_t target = tokens.targets[static_cast<size_t>(n)];
    if (own.Contains(target)) token.probability_gradient(target - own.begin) -= 1;
    SetLogits(levels_, matrices, form_, first, second, target, token);
    ISTHMUS_RETURN_IF_ERROR(visit(std::move(token)));
  }
  return absl::OkStatus();
}

}  // namespace isthmus
