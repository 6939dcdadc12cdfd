#include "model/heads/mixture/mixture_jacobians.h"

#include <cstddef>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "model/algebra/host_copy.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

// The matrices on the host.
struct MixtureMatrices {
  Eigen::Index width() const { return weight.cols(); }
  Eigen::Index count() const { return down.rows() / (width() + 1); }
  auto component(Eigen::Index k) const { return down.middleRows(k * width(), width()); }
  auto prior() const { return down.bottomRows(count()); }

  Matrix down, weight;
};

// One token's components and their weights.
struct MixedToken {
  std::vector<TokenJacobian> components;  // of the softmax of each by itself
  Eigen::VectorXd prior;                  // π
  Eigen::VectorXd posterior;              // γ
};

absl::StatusOr<MixedToken> Mixed(const MixtureMatrices& matrices, const Eigen::VectorXd& hidden, int64_t target,
                                 const LossForm& form, Communicator& tensor) {
  const Eigen::Index count = matrices.count();
  MixedToken token;
  token.prior = matrices.prior() * hidden;
  token.prior = (token.prior.array() - token.prior.maxCoeff()).exp();
  token.prior /= token.prior.sum();
  // p_k(y), from the one rank that has y.
  Eigen::VectorXd of_target = Eigen::VectorXd::Zero(count);
  for (Eigen::Index k = 0; k < count; ++k) {
    const Eigen::VectorXd features = (matrices.component(k) * hidden).array().tanh();
    const Eigen::VectorXd slopes = 1 - features.array().square();
    auto logits = std::make_shared<const Matrix>(matrices.weight * (slopes.asDiagonal() * matrices.component(k)));
    ISTHMUS_ASSIGN_OR_RETURN(TokenJacobian component,
                             SoftmaxJacobian(logits, matrices.weight * features, target, form, tensor));
    if (target >= 0 && target < matrices.weight.rows()) of_target(k) = component.probability_gradient(target) + 1;
    token.components.push_back(std::move(component));
  }
  ISTHMUS_RETURN_IF_ERROR(SumOver(tensor, of_target));
  token.posterior = token.prior.cwiseProduct(of_target);
  token.posterior /= token.posterior.sum();
  return token;
}

// Sets the derivatives of all components' logits, and below them those of the prior's, with the gradient by them.
void SetMixedLogits(const MixtureMatrices& matrices, const MixedToken& mixed, bool has_prior, TokenJacobian& token) {
  const Eigen::Index count = matrices.count(), rows = matrices.weight.rows();
  Matrix logits(count * rows + (has_prior ? count : 0), matrices.width());
  token.gradient.resize(logits.rows());
  for (Eigen::Index k = 0; k < count; ++k) {
    const TokenJacobian& component = mixed.components[static_cast<size_t>(k)];
    logits.middleRows(k * rows, rows) = *component.logits;
    token.gradient.segment(k * rows, rows) = mixed.posterior(k) * component.gradient;
  }
  if (has_prior) {
    logits.bottomRows(count) = matrices.prior();
    token.gradient.tail(count) = mixed.prior - mixed.posterior;
  }
  token.logits = std::make_shared<const Matrix>(std::move(logits));
}

}  // namespace

absl::Status MixtureJacobians::Visit(const PlacedTokens& tokens, const Visitor& visit) {
  MixtureMatrices matrices;
  ISTHMUS_ASSIGN_OR_RETURN(matrices.down, HostCopy(down_, stream_));
  ISTHMUS_ASSIGN_OR_RETURN(matrices.weight, HostCopy(weight_, stream_));
  for (Eigen::Index n = 0; n < tokens.hidden.rows(); ++n) {
    const int64_t target = tokens.targets[static_cast<size_t>(n)] - rows_.begin;
    ISTHMUS_ASSIGN_OR_RETURN(const MixedToken mixed,
                             Mixed(matrices, tokens.hidden.row(n).transpose(), target, form_, tensor_));
    TokenJacobian token;
    SetMixedLogits(matrices, mixed, tensor_.rank() == 0, token);
    const Eigen::RowVectorXd mean = mixed.prior.transpose() * matrices.prior();
    Eigen::VectorXd probabilities = Eigen::VectorXd::Zero(matrices.weight.rows());
    token.log_probabilities = Matrix::Zero(matrices.weight.rows(), matrices.width());
    for (Eigen::Index k = 0; k < matrices.count(); ++k) {
      const TokenJacobian& component = mixed.components[static_cast<size_t>(k)];
      Eigen::VectorXd joint = component.probability_gradient;
      if (rows_.Contains(rows_.begin + target)) joint(target) += 1;
      joint *= mixed.prior(k);
      probabilities += joint;
      Matrix of_component = component.log_probabilities;
      of_component.rowwise() += matrices.prior().row(k) - mean;
      token.log_probabilities += joint.asDiagonal() * of_component;
    }
    // A probability that fp64 does not hold leaves a row of zeros.
    constexpr double kLeast = std::numeric_limits<double>::min();
    token.log_probabilities =
        (probabilities.cwiseMax(kLeast).cwiseInverse().asDiagonal() * token.log_probabilities).eval();
    token.probability_gradient = probabilities;
    if (rows_.Contains(rows_.begin + target)) token.probability_gradient(target) -= 1;
    ISTHMUS_RETURN_IF_ERROR(visit(std::move(token)));
  }
  return absl::OkStatus();
}

}  // namespace isthmus
