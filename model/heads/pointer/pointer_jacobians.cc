#include "model/heads/pointer/pointer_jacobians.h"

#include <cmath>
#include <cstddef>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "model/algebra/host_copy.h"
#include "model/algebra/matrix.h"
#include "runtime/device.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

// The matrices on the host.
struct PointerMatrices {
  Eigen::Index width() const { return (down.rows() - 1) / 2; }
  auto query() const { return down.topRows(width()); }
  auto key() const { return down.middleRows(width(), width()); }
  Eigen::VectorXd slot() const { return down.row(2 * width()).transpose(); }

  Matrix weight, down;
  double sink = 0;
};

// The attention of one token: the sink is at place 0, and position j at place 1 + j.
struct PointedScores {
  Eigen::VectorXd masses;  // a_n
  Matrix scores;           // their derivatives [1 + positions, D]
  // The places of each token that was read, whose masses are parts of a_nv.
  std::map<int32_t, std::vector<Eigen::Index>> places;
};

// The vocabulary and the slot of one token.
struct PointerSlot {
  ShardedSoftmax vocabulary;
  Matrix rows;              // ∂ log p_v/∂h [V_i, D]
  Eigen::VectorXd by_slot;  // w_s - w̄
  double share = 0;         // σ
  double kept = 0;          // 1 - σ (1 - a_n0)
  double by_sink = 0;       // the share of `kept` that is the sink's
};

PointedScores PointedScoresOf(const PointerMatrices& matrices, const Matrix& hidden, const std::vector<int32_t>& ids) {
  const Eigen::Index positions = hidden.rows();
  const double scale = 1 / std::sqrt(static_cast<double>(matrices.width()));
  const Eigen::VectorXd own = hidden.row(positions - 1).transpose();
  const Matrix keys = hidden * matrices.key().transpose();
  const Eigen::VectorXd query = matrices.query() * own;
  PointedScores attention;
  attention.masses.resize(1 + positions);
  attention.masses << matrices.sink, scale * keys * query;
  attention.masses = (attention.masses.array() - attention.masses.maxCoeff()).exp();
  attention.masses /= attention.masses.sum();
  attention.scores = Matrix::Zero(1 + positions, hidden.cols());
  attention.scores.bottomRows(positions) = scale * keys * matrices.query();
  attention.scores.row(positions) += scale * query.transpose() * matrices.key();
  for (Eigen::Index j = 0; j < positions; ++j) attention.places[ids[static_cast<size_t>(j)]].push_back(1 + j);
  return attention;
}

absl::StatusOr<PointerSlot> PointerSlotOf(const PointerMatrices& matrices, const Eigen::VectorXd& hidden,
                                          double sink_mass, const LossForm& form, Communicator& tensor) {
  PointerSlot slot;
  ISTHMUS_ASSIGN_OR_RETURN(slot.vocabulary, ShardedSoftmax::Of(matrices.weight * hidden, form, tensor));
  slot.rows = slot.vocabulary.slopes.asDiagonal() * matrices.weight;
  Eigen::VectorXd mean = slot.rows.transpose() * slot.vocabulary.probabilities;
  ISTHMUS_RETURN_IF_ERROR(SumOver(tensor, mean));
  slot.rows.rowwise() -= mean.transpose();
  slot.by_slot = matrices.slot() - mean;
  const double odds = matrices.slot().dot(hidden) - slot.vocabulary.log_sum_exp;  // of the slot, as a logarithm
  slot.share = 1 / (1 + std::exp(-odds));
  const double rest = 1 / (1 + std::exp(odds)), returned = slot.share * sink_mass;
  slot.kept = rest + returned;
  slot.by_sink = slot.kept == 0 ? 0 : returned / slot.kept;
  return slot;
}

// How log P(v) of one token depends on log p_v, t and the scores, whose derivatives are 0 but for these.
struct PointerDependence {
  double copied = 0;       // c_v
  double by_slot = 0;      // ∂ log P(v)/∂t
  Eigen::VectorXd scores;  // ∂ log P(v)/∂s, by place
};

// Returns that of a token with this p_v.
PointerDependence PointerDependenceOf(const PointerSlot& slot, const PointedScores& attention, double probability,
                                      int32_t id) {
  const auto found = attention.places.find(id);
  double mass = 0;
  if (found != attention.places.end()) {
    for (const Eigen::Index place : found->second) mass += attention.masses(place);
  }
  const double copied = slot.share * mass, whole = probability * slot.kept + copied;
  PointerDependence dependence;
  dependence.copied = whole == 0 ? 0 : copied / whole;
  const double c = dependence.copied, of_sink = (1 - c) * slot.by_sink;
  // log σ has the derivative 1 - σ, and log (1 - σ) has -σ.
  dependence.by_slot = (c + of_sink) * (1 - slot.share) - (1 - c) * (1 - slot.by_sink) * slot.share;
  dependence.scores = -(c + of_sink) * attention.masses;
  dependence.scores(0) += of_sink;
  if (mass == 0) return dependence;
  for (const Eigen::Index place : found->second) dependence.scores(place) += c * attention.masses(place) / mass;
  return dependence;
}

// Sets the Jacobian of the log-probabilities of this rank's rows, and p - y but for the target.
void SetPointerProbabilities(const PointerSlot& slot, const PointedScores& attention, Range rows,
                             TokenJacobian& token) {
  token.probability_gradient = slot.kept * slot.vocabulary.probabilities;
  const PointerDependence none = PointerDependenceOf(slot, attention, 1, -1);
  const Eigen::VectorXd of_kept = none.by_slot * slot.by_slot + attention.scores.transpose() * none.scores;
  token.log_probabilities = slot.rows.rowwise() + of_kept.transpose();
  for (const auto& [id, places] : attention.places) {
    if (!rows.Contains(id)) continue;
    const Eigen::Index row = id - rows.begin;
    const PointerDependence of_id = PointerDependenceOf(slot, attention, slot.vocabulary.probabilities(row), id);
    token.log_probabilities.row(row) = (1 - of_id.copied) * slot.rows.row(row) +
                                       of_id.by_slot * slot.by_slot.transpose() +
                                       of_id.scores.transpose() * attention.scores;
    for (const Eigen::Index place : places) token.probability_gradient(row) += slot.share * attention.masses(place);
  }
}

// Sets the Jacobian of the logits and the loss's gradient. `target` is the dependence of the target's log P, which is
// `row` among this rank's rows if it has it.
void SetPointerLogits(const PointerMatrices& matrices, const PointerSlot& slot, const PointedScores& attention,
                      const PointerDependence& target, Eigen::Index row, const LossForm& form, bool first,
                      TokenJacobian& token) {
  const Eigen::Index own = matrices.weight.rows(), more = first ? 1 + attention.scores.rows() : 0;
  Matrix logits(own + more, matrices.weight.cols());
  logits.topRows(own) = matrices.weight;
  token.gradient.resize(own + more);
  // The log-sum-exp is taken from z_y and from t.
  const TokenWeights weights = {.target = 1 - target.copied, .excess = target.by_slot};
  token.gradient.head(own) =
      form.ProbabilityFactor(slot.vocabulary.log_sum_exp, weights) * slot.vocabulary.probabilities;
  if (row >= 0 && row < own) token.gradient(row) -= weights.target;
  token.gradient.head(own).array() *= slot.vocabulary.slopes.array();
  if (first) {
    logits.row(own) = matrices.slot().transpose();
    logits.bottomRows(attention.scores.rows()) = attention.scores;
    token.gradient(own) = -target.by_slot;
    token.gradient.tail(attention.scores.rows()) = -target.scores;
  }
  token.logits = std::make_shared<const Matrix>(std::move(logits));
}

absl::StatusOr<PointerMatrices> MatricesOfPointer(const PointerHead& head, const Stream& stream) {
  PointerMatrices matrices;
  ISTHMUS_ASSIGN_OR_RETURN(matrices.weight, HostCopy(head.weight, stream));
  ISTHMUS_ASSIGN_OR_RETURN(matrices.down, HostCopy(head.down, stream));
  ISTHMUS_ASSIGN_OR_RETURN(const Matrix sink, HostCopy(head.sink, stream));
  matrices.sink = sink(0, 0);
  return matrices;
}

}  // namespace

absl::Status PointerJacobians::Visit(const PlacedTokens& tokens, const Visitor& visit) {
  ISTHMUS_ASSIGN_OR_RETURN(const PointerMatrices matrices, MatricesOfPointer(head_, stream_));
  for (size_t n = 0; n < tokens.places.size(); ++n) {
    const int64_t first = tokens.places[n] / head_.sequence_length * head_.sequence_length;
    const int64_t count = tokens.places[n] + 1 - first;
    std::vector<int32_t> ids(static_cast<size_t>(count));
    ISTHMUS_RETURN_IF_ERROR(
        CopyToHost(ids_.ColumnSlice(first, count), Tensor(ids.data(), DType::kInt32, 1, count), stream_));
    ISTHMUS_ASSIGN_OR_RETURN(const Matrix hidden, HostCopy(tokens.micro_batch.RowSlice(first, count), stream_));
    const PointedScores attention = PointedScoresOf(matrices, hidden, ids);
    ISTHMUS_ASSIGN_OR_RETURN(const PointerSlot slot, PointerSlotOf(matrices, hidden.row(count - 1).transpose(),
                                                                   attention.masses(0), head_.form, tensor_));
    TokenJacobian token;
    SetPointerProbabilities(slot, attention, head_.rows, token);
    const int32_t target = tokens.targets[n];
    const Eigen::Index row = target - head_.rows.begin;
    // p of the target, from the one rank that has it.
    Eigen::VectorXd of_target = Eigen::VectorXd::Zero(1);
    if (head_.rows.Contains(target)) {
      of_target(0) = slot.vocabulary.probabilities(row);
      token.probability_gradient(row) -= 1;
    }
    ISTHMUS_RETURN_IF_ERROR(SumOver(tensor_, of_target));
    SetPointerLogits(matrices, slot, attention, PointerDependenceOf(slot, attention, of_target(0), target), row,
                     head_.form, tensor_.rank() == 0, token);
    ISTHMUS_RETURN_IF_ERROR(visit(std::move(token)));
  }
  return absl::OkStatus();
}

}  // namespace isthmus
