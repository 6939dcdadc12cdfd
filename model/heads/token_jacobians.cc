#include "model/heads/token_jacobians.h"

#include <cmath>
#include <cstddef>
#include <utility>

#include "model/algebra/host_copy.h"
#include "model/heads/lm_head.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

class JacobiansOfRows : public TokenJacobians {
 public:
  JacobiansOfRows(HeadView view, const LossForm& form, Communicator& tensor, const Stream& stream)
      : view_(std::move(view)), form_(form), tensor_(tensor), stream_(stream) {}

  absl::Status Visit(const PlacedTokens& tokens, const Visitor& visit) override {
    if (weight_ == nullptr) ISTHMUS_RETURN_IF_ERROR(TakeWeights());
    for (Eigen::Index n = 0; n < tokens.hidden.rows(); ++n) {
      const int64_t target = tokens.targets[static_cast<size_t>(n)] - view_.rows.begin;
      ISTHMUS_ASSIGN_OR_RETURN(
          TokenJacobian token,
          SoftmaxJacobian(weight_, *weight_ * tokens.hidden.row(n).transpose() + bias_, target, form_, tensor_));
      ISTHMUS_RETURN_IF_ERROR(visit(std::move(token)));
    }
    return absl::OkStatus();
  }

 private:
  absl::Status TakeWeights() {
    ISTHMUS_ASSIGN_OR_RETURN(Matrix weight, HostCopy(view_.weight, stream_));
    if (view_.down != nullptr) {
      ISTHMUS_ASSIGN_OR_RETURN(const Matrix down, HostCopy(view_.down->weight, stream_));
      weight = (weight * down).eval();
    }
    bias_ = Matrix::Zero(weight.rows(), 1);
    if (view_.bias.defined()) {
      ISTHMUS_ASSIGN_OR_RETURN(bias_, HostCopy(view_.bias, stream_));
    }
    weight_ = std::make_shared<const Matrix>(std::move(weight));
    return absl::OkStatus();
  }

  const HeadView view_;
  const LossForm form_;
  Communicator& tensor_;
  const Stream& stream_;
  std::shared_ptr<const Matrix> weight_;  // W [V_i, D]
  Matrix bias_;
};

}  // namespace

absl::StatusOr<PlacedTokens> PlacedTokens::Of(const Tensor& micro_batch, std::vector<int64_t> places,
                                              std::vector<int32_t> targets, const Stream& stream) {
  const auto count = static_cast<Eigen::Index>(places.size());
  PlacedTokens tokens = {.hidden = Matrix(count, micro_batch.columns),
                         .targets = std::move(targets),
                         .micro_batch = micro_batch,
                         .places = std::move(places)};
  Eigen::Index n = 0;
  for (const int64_t place : tokens.places) {
    ISTHMUS_ASSIGN_OR_RETURN(tokens.hidden.row(n++), HostCopy(micro_batch.RowSlice(place, 1), stream));
  }
  return tokens;
}

std::unique_ptr<TokenJacobians> LinearJacobians(const HeadView& view, const LossForm& form, Communicator& tensor,
                                                const Stream& stream) {
  return std::make_unique<JacobiansOfRows>(view, form, tensor, stream);
}

absl::StatusOr<TokenJacobian> SoftmaxJacobian(std::shared_ptr<const Matrix> logits, const Eigen::VectorXd& values,
                                              int64_t target, const LossForm& form, Communicator& tensor) {
  TokenJacobian token;
  token.logits = std::move(logits);
  ISTHMUS_ASSIGN_OR_RETURN(const ShardedSoftmax softmax, ShardedSoftmax::Of(values, form, tensor));
  token.gradient = softmax.Gradient(target, form);
  token.log_probabilities = softmax.slopes.asDiagonal() * *token.logits;
  Eigen::VectorXd mean = token.log_probabilities.transpose() * softmax.probabilities;
  ISTHMUS_RETURN_IF_ERROR(SumOver(tensor, mean));
  token.log_probabilities.rowwise() -= mean.transpose();
  token.probability_gradient = softmax.probabilities;
  if (target >= 0 && target < softmax.probabilities.size()) token.probability_gradient(target) -= 1;
  return token;
}

absl::Status SumOver(Communicator& tensor, Eigen::Ref<Eigen::VectorXd> values) {
  if (tensor.size() == 1 || values.size() == 0) return absl::OkStatus();
  return tensor.AllReduceNumbers(absl::MakeSpan(values.data(), static_cast<size_t>(values.size())));
}

absl::StatusOr<ShardedSoftmax> ShardedSoftmax::Of(const Eigen::VectorXd& logits, const LossForm& form,
                                                  Communicator& tensor) {
  const Eigen::VectorXd capped = logits.unaryExpr([&](double logit) { return form.Capped(logit); });
  Eigen::VectorXd largest = Eigen::VectorXd::Constant(1, capped.size() == 0 ? -HUGE_VAL : capped.maxCoeff());
  if (tensor.size() > 1) {
    ISTHMUS_RETURN_IF_ERROR(tensor.AllReduceNumbers(absl::MakeSpan(largest.data(), 1), Reduction::kMax));
  }
  ShardedSoftmax softmax;
  softmax.probabilities = (capped.array() - largest(0)).exp();
  Eigen::VectorXd sum = Eigen::VectorXd::Constant(1, softmax.probabilities.sum());
  ISTHMUS_RETURN_IF_ERROR(SumOver(tensor, sum));
  softmax.probabilities /= sum(0);
  softmax.slopes = capped.unaryExpr([&](double logit) { return form.Slope(logit); });
  softmax.log_sum_exp = largest(0) + std::log(sum(0));
  return softmax;
}

Eigen::VectorXd ShardedSoftmax::Gradient(int64_t target, const LossForm& form) const {
  Eigen::VectorXd gradient = form.ProbabilityFactor(log_sum_exp) * probabilities;
  if (target >= 0 && target < gradient.size()) gradient(target) -= 1;
  return slopes.cwiseProduct(gradient);
}

}  // namespace isthmus
